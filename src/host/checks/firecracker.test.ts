import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Deadline } from "../../base/deadline.js";
import { script } from "../firecracker/testing/archives.js";
import { program, scratch } from "../firecracker/testing/scratch.js";
import { type KvmDevice, lookAtKvm } from "../kvm-device.js";
import type { CheckContext } from "./check.js";
import { firecrackerCheck } from "./firecracker.js";

vi.mock("../kvm-device.js");

const opens: KvmDevice = { opens: true };
const refused: KvmDevice = { opens: false, found: "/dev/kvm does not open (EACCES)", remedy: "Join the group." };

beforeEach(() => vi.stubEnv("PATH", scratch()));
afterEach(() => vi.unstubAllEnvs());

/** Puts programs on PATH. @returns Where. */
function onPath(programs: Readonly<Record<string, string>>): string {
  const directory = scratch();
  for (const [name, text] of Object.entries(programs)) program(join(directory, name), text);
  vi.stubEnv("PATH", directory);
  return directory;
}

async function check(kvm: KvmDevice, context: Partial<CheckContext> = {}) {
  vi.mocked(lookAtKvm).mockResolvedValue(kvm);
  const paths = { cacheDir: scratch(), stateDir: "/nowhere", runtimeDir: "/nowhere" };
  const deadline = Deadline.after(20_000);
  return firecrackerCheck.run({
    paths,
    platform: "linux",
    architecture: "x86_64",
    isRoot: false,
    deadline,
    ...context,
  });
}

const FIRECRACKER = script("Firecracker", "1.16.1");
const JAILER = script("Jailer", "1.16.1");
const boots = async () => ({ usable: true, reason: "a guest booted with it" });

test("is ok only when both programs are there and a guest booted", async () => {
  const bin = onPath({ firecracker: FIRECRACKER, jailer: JAILER });
  const found = `v1.16.1 at ${bin}/firecracker, jailer v1.16.1 at ${bin}/jailer; `;
  expect(await check(opens, { tryFirecracker: boots })).toEqual({
    status: "ok",
    found: `${found}a guest booted with it`,
  });
  expect(await check(opens)).toEqual({
    status: "warn",
    found: `${found}/dev/kvm opens, but no guest was booted with it`,
  });
});

test("a trial that fails is told with its reason", async () => {
  onPath({ firecracker: FIRECRACKER, jailer: JAILER });
  const tryFirecracker = async () => ({ usable: false, reason: "KVM internal error" });
  const { status, found, remedy } = await check(opens, { tryFirecracker });
  expect([status, found]).toEqual(["fail", expect.stringContaining("a trial boot failed: KVM internal error")]);
  expect(remedy).toContain("QEMU runs the guests");
});

test("nothing is tried without KVM, whose remedy is told", async () => {
  onPath({ firecracker: FIRECRACKER, jailer: JAILER });
  const tryFirecracker = vi.fn(boots);
  expect(await check(refused, { tryFirecracker })).toMatchObject({
    status: "warn",
    found: expect.stringContaining("of no use without KVM: /dev/kvm does not open (EACCES)"),
    remedy: "Join the group.",
  });
  expect(tryFirecracker).not.toHaveBeenCalled();
});

test("a jailer that is missing, or of another version, is a loss", async () => {
  onPath({ firecracker: FIRECRACKER });
  const without = await check(opens, { tryFirecracker: boots });
  expect(without).toMatchObject({ status: "warn", found: expect.stringContaining("no jailer (jailer is not there)") });
  onPath({ firecracker: FIRECRACKER, jailer: script("Jailer", "1.15.0") });
  const other = await check(opens, { tryFirecracker: boots });
  expect(other).toMatchObject({ status: "warn", found: expect.stringContaining("is v1.15.0, needed is v1.16.1") });
});

test("where there is none, the way to it is told; an old one is a failure", async () => {
  expect(await check(opens)).toEqual({
    status: "warn",
    found: "neither on PATH nor installed; QEMU is used",
    remedy: expect.stringContaining("smolvm setup --firecracker"),
  });
  expect((await check(refused)).remedy).toMatch(/^Join the group\.\nThen: Run `smolvm setup --firecracker`/);
  onPath({ firecracker: script("Firecracker", "1.7.0") });
  expect(await check(opens)).toMatchObject({ status: "fail", found: expect.stringContaining("is v1.7.0, needed is") });
});

test("macOS has no Firecracker", async () => {
  expect(await check(opens, { platform: "darwin" })).toMatchObject({ status: "warn" });
});
