import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import type { FoundFirecracker } from "../../host/firecracker/find-firecracker.js";
import type { MachineSpec } from "../backend.js";
import { confinementOf, hasCapabilities, mapsAllUsers, mountOptions } from "./confinement.js";
import { jailUser } from "./jail-user.js";
import { machineIn, scratch } from "./testing/machines.js";

const isRoot = process.platform === "linux" && process.getuid?.() === 0;
const program = { path: "/x", version: { numbers: [1, 16, 1] as const, text: "1.16.1" }, fingerprint: "x" };
const found: FoundFirecracker = { firecracker: program, jailer: program, jailerProblem: undefined, origin: "path" };
const macAddress = "02:00:00:00:00:02";

test("capabilities that a jail takes", () => {
  expect(hasCapabilities("CapEff:\t000001ffffffffff\n")).toBe(true);
  expect(hasCapabilities("CapEff:\t00000000a80425fb\n")).toBe(false); // Docker's default: no CAP_SYS_ADMIN.
  expect(hasCapabilities("")).toBe(false);
});

test("a user namespace with all users", () => {
  expect(mapsAllUsers("         0          0 4294967295\n")).toBe(true);
  expect(mapsAllUsers("         0     100000      65536\n")).toBe(false);
  expect(mapsAllUsers("         0          0      65536\n         65536 100000 10\n")).toBe(false);
});

describe("options of the mount that a directory is on", () => {
  const mountinfo = [
    "22 27 0:21 / / rw,relatime shared:1 - ext4 /dev/vda rw",
    "23 22 0:22 / /run rw,nosuid,nodev,noexec shared:2 - tmpfs tmpfs rw",
    "24 22 0:23 / /home/a\\040b rw,nodev - ext4 /dev/vdb rw",
    "25 22 0:24 / /home/a\\040b rw,noexec - ext4 /dev/vdc rw",
  ].join("\n");

  test.each([
    ["/var/lib", "rw,relatime"],
    ["/run/smolvm", "rw,nosuid,nodev,noexec"],
    ["/run", "rw,nosuid,nodev,noexec"],
    ["/runner", "rw,relatime"],
    ["/home/a b/jails", "rw,noexec"],
  ])("%s", (directory, options) => {
    expect(mountOptions(mountinfo, directory).join(",")).toBe(options);
  });
});

test("without a jailer there is the filter alone, and it says why", () => {
  const without = { ...found, jailer: undefined, jailerProblem: "jailer is v1.15.0" };
  const machine = machineIn(scratch());
  expect(confinementOf(machine, { found: without, jailsDir: "/jails" })).toEqual({
    kind: "seccomp",
    uid: process.getuid?.(),
    reason: isRoot ? "jailer is v1.15.0" : "a jail takes root",
  });
});

const canJail = isRoot && hasCapabilities(readFileSync("/proc/self/status", "latin1"));
if (!canJail) console.log("gate: root: a jail takes root with its capabilities");

describe.runIf(canJail)("as root", () => {
  const confined = (changes: Partial<MachineSpec>) => {
    const directory = scratch();
    return confinementOf(machineIn(directory, changes), { found, jailsDir: `${directory}/jails` });
  };

  test("a machine has a jail, with a user of its own", () => {
    const machine = machineIn(scratch());
    const facts = { found, jailsDir: "/var/lib/smolvm/jails" };
    expect(confinementOf(machine, facts)).toEqual({ kind: "jailer", uid: jailUser(machine.runtimeDir) });
    expect(confined({ network: { link: { kind: "tap", device: "none-yet" }, macAddress } })).toMatchObject({
      kind: "jailer",
    });
  });

  test.each<[string, Partial<MachineSpec>]>([
    ["its disk is shared", { disk: { mode: "shared", path: "/d", format: "raw" } }],
    ["its network device makes its own other end", { network: { link: undefined, macAddress } }],
  ])("not when %s", (reason, change) => {
    expect(confined(change)).toMatchObject({ kind: "seccomp", uid: 0, reason });
  });
});

test("the user of a jail follows from the runtime directory, and belongs to nobody", () => {
  const users = Array.from({ length: 200 }, (_, index) => jailUser(`/run/smolvm/x/${index}`));
  expect(jailUser("/run/smolvm/x/0")).toBe(users[0]);
  expect(new Set(users).size).toBeGreaterThan(190);
  for (const user of users) {
    expect(user).toBeGreaterThanOrEqual(1_879_048_192);
    expect(user).toBeLessThan(2_147_352_576);
  }
});
