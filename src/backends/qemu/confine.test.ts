import { expect, test } from "vitest";
import { confinedArgv } from "./confine.js";

test("a VMM is given no rights that it does not need", () => {
  const rest = (rights: "root" | "capabilities") => confinedArgv(["/bin/qemu", "-x"], rights).slice(1).join(" ");
  expect(confinedArgv(["/bin/qemu", "-x"], "none")).toEqual(["/bin/qemu", "-x"]);
  expect(confinedArgv(["/bin/qemu"], "root")[0]).toMatch(/setpriv$/);
  expect(rest("root")).toBe(
    "--no-new-privs --bounding-set=-all,+dac_override --inh-caps=-all --ambient-caps=-all -- /bin/qemu -x",
  );
  expect(rest("capabilities")).toBe("--no-new-privs --inh-caps=-all --ambient-caps=-all -- /bin/qemu -x");
});
