import { chmodSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { Deadline } from "../../base/deadline.js";
import { findFirecracker, findInstalled, type SearchOptions, searchFirecracker } from "./find-firecracker.js";
import { identifyProgram } from "./identify-program.js";
import { ARCHITECTURE, script } from "./testing/archives.js";
import { program, scratch } from "./testing/scratch.js";
import type { FirecrackerProgramName } from "./version.js";

const deadline = () => Deadline.after(20_000);

/** A host with some programs on PATH and some installed; texts are scripts. */
function host({ path = {}, installed = {} }: { path?: Programs; installed?: Programs }) {
  const cacheDir = scratch();
  const bin = scratch();
  const release = join(cacheDir, `firecracker/v1.16.1-${ARCHITECTURE}`);
  for (const [name, text] of Object.entries(path)) program(join(bin, name), text);
  for (const [name, text] of Object.entries(installed)) program(join(release, name), text);
  const findOnPath = (name: FirecrackerProgramName) => (path[name] === undefined ? undefined : join(bin, name));
  const options: SearchOptions = { paths: { cacheDir }, architecture: ARCHITECTURE, findOnPath };
  return { bin, release, cacheDir, options };
}

type Programs = Partial<Record<FirecrackerProgramName, string>>;

const both = (version: string): Programs => ({
  firecracker: script("Firecracker", version),
  jailer: script("Jailer", version),
});

describe("Firecracker", () => {
  test("on PATH comes first", async () => {
    const { bin, options } = host({ path: both("1.17.2"), installed: both("1.16.1") });
    const found = await findFirecracker(deadline(), options);
    expect(found).toMatchObject({
      origin: "path",
      firecracker: { path: join(bin, "firecracker"), version: { text: "1.17.2", numbers: [1, 17, 2] } },
      jailer: { path: join(bin, "jailer") },
    });
  });

  test("that is installed comes next", async () => {
    const { release, options } = host({ installed: both("1.16.1") });
    const found = await findFirecracker(deadline(), options);
    expect(found).toMatchObject({ origin: "installed", firecracker: { path: join(release, "firecracker") } });
  });

  test.each(["1.15.1", "1.9.9", "0.25.0", "2.0.0"])("v%s on PATH is passed over, and named", async (version) => {
    const { bin, options } = host({ path: both(version), installed: both("1.16.1") });
    const { found, problems } = await searchFirecracker(deadline(), options);
    expect(found?.origin).toBe("installed");
    expect(problems).toEqual([`"${bin}/firecracker" is v${version}, needed is v1.16.1 or a later v1`]);
  });

  test.each([
    ["exit 3", "exited with 3"],
    ["echo QEMU emulator version 7.2", "states none"],
    ["echo Jailer v1.16.1", "states none"],
  ])("that does `%s` is passed over", async (line, why) => {
    const { options } = host({ path: { firecracker: `#!/bin/sh\n${line}\n` } });
    const { found, problems } = await searchFirecracker(deadline(), options);
    expect(found).toBeUndefined();
    expect(problems).toEqual([expect.stringContaining(why)]);
  });

  test("that nobody has is HOST_UNSUPPORTED, with what brings it", async () => {
    const { options } = host({});
    await expect(findFirecracker(deadline(), options)).rejects.toMatchObject({
      code: "HOST_UNSUPPORTED",
      message: expect.stringContaining("neither on PATH nor installed"),
      hint: expect.stringContaining("smolvm setup --firecracker"),
    });
  });

  test("that hangs ends with the deadline", async () => {
    const { options } = host({ path: { firecracker: "#!/bin/sh\nexec sleep 60\n" } });
    await expect(findFirecracker(Deadline.after(200), options)).rejects.toMatchObject({ code: "TIMEOUT" });
    const aborting = findFirecracker(Deadline.after(20_000, AbortSignal.timeout(100)), options);
    await expect(aborting).rejects.toMatchObject({ code: "ABORTED" });
  });

  test.each(["cacheDir", "release"] as const)("in a %s that others can write to is not executed", async (where) => {
    const mark = join(scratch(), "was-executed");
    const made = host({ installed: { ...both("1.16.1"), firecracker: script("Firecracker", "1.16.1", mark) } });
    chmodSync(made[where], 0o777);
    const { found, problems } = await searchFirecracker(deadline(), made.options);
    expect(found).toBeUndefined();
    expect(problems).toEqual([expect.stringContaining("others can write to")]);
    expect(() => chmodSync(mark, 0o600)).toThrow("ENOENT");
  });
});

describe("its jailer", () => {
  test("has to be of the same version", async () => {
    const { options } = host({ path: { ...both("1.16.1"), jailer: script("Jailer", "1.16.0") } });
    const found = await findFirecracker(deadline(), options);
    expect(found.jailer).toBeUndefined();
    expect(found.jailerProblem).toContain("is v1.16.0, needed is v1.16.1");
  });

  test("may be missing", async () => {
    const { options } = host({ path: { firecracker: script("Firecracker", "1.16.1") } });
    expect(await findFirecracker(deadline(), options)).toMatchObject({
      jailer: undefined,
      jailerProblem: "jailer is not there",
    });
  });

  test("makes an installed copy whole", async () => {
    const { options } = host({ installed: { firecracker: script("Firecracker", "1.16.1") } });
    expect(await findInstalled(deadline(), options)).toBeUndefined();
    expect(await findInstalled(deadline(), host({ installed: both("1.16.0") }).options)).toBeUndefined();
    expect(await findInstalled(deadline(), host({ installed: both("1.16.1") }).options)).toBeDefined();
  });
});

describe("a program", () => {
  test("is asked once, and again when its file was changed", async () => {
    const directory = scratch();
    const log = join(directory, "log");
    const text = (version: string) => `#!/bin/sh\necho x >> ${log}\necho "Firecracker v${version}"\n`;
    const path = program(join(directory, "firecracker"), text("1.16.1"));
    writeFileSync(log, "");
    const first = await identifyProgram("firecracker", path, deadline());
    const second = await identifyProgram("firecracker", path, deadline());
    expect(second).toEqual(first);
    program(path, text("1.16.10"));
    const third = await identifyProgram("firecracker", path, deadline());
    expect(third.version.text).toBe("1.16.10");
    expect(third.fingerprint).not.toBe(first.fingerprint);
    expect(readFileSync(log, "utf8")).toBe("x\nx\n");
  });

  test("that is not there is HOST_UNSUPPORTED", async () => {
    const asked = identifyProgram("jailer", join(scratch(), "jailer"), deadline());
    await expect(asked).rejects.toMatchObject({ code: "HOST_UNSUPPORTED" });
  });
});
