import { expect, test } from "vitest";
import { confinedArgv } from "./confine.js";

test("only root's VMM has something taken away", () => {
  expect(confinedArgv(["/bin/qemu", "-x"], false)).toEqual(["/bin/qemu", "-x"]);
  const [program, ...rest] = confinedArgv(["/bin/qemu", "-x"], true);
  expect(program).toMatch(/setpriv$/);
  expect(rest.join(" ")).toBe(
    "--no-new-privs --bounding-set=-all,+dac_override --inh-caps=-all --ambient-caps=-all -- /bin/qemu -x",
  );
});
