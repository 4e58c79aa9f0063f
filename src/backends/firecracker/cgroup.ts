// The cgroup of a jailed VMM: the jailer makes it, and leaves it behind.

import { existsSync, readFileSync } from "node:fs";
import { rmdir } from "node:fs/promises";
import { join } from "node:path";

const CGROUP_ROOT = "/sys/fs/cgroup";
/** Of all VMs. */
const PARENT = "smolvm";
/** What Firecracker needs beside the guest's memory, in MiB: its own heap, and the cache of what it writes. */
const OVERHEAD_MIB = 256;
/** Threads of a VMM: one for each vCPU, one for devices, one for the API; and the kernel's for io_uring. */
const OTHER_THREADS = 32;
const CONTROLLERS = ["memory", "pids"];

/** The machine that is limited. */
export interface LimitedMachine {
  readonly vcpuCount: number;
  readonly memSizeMib: number;
}

/**
 * The jailer's options. None where this process does not see the root of the unified hierarchy, writable and with the
 * controllers: the jailer switches these on from there downward, and ends when that fails.
 */
export function cgroupOptions(machine: LimitedMachine, root = CGROUP_ROOT): readonly string[] {
  if (!isUsable(root)) return [];
  const memoryBytes = (machine.memSizeMib + OVERHEAD_MIB) * 2 ** 20;
  return [
    ...["--cgroup-version", "2", "--parent-cgroup", PARENT],
    ...["--cgroup", `memory.max=${memoryBytes}`],
    ...["--cgroup", `pids.max=${machine.vcpuCount + OTHER_THREADS}`],
  ];
}

/** Removes the cgroup of a VMM that has ended, if it had one. */
export async function removeCgroup(id: string, root = CGROUP_ROOT): Promise<void> {
  const parent = join(root, PARENT);
  for (const path of [join(parent, id), parent]) await rmdir(path).catch(() => {}); // Not there, or others are in it.
}

function isUsable(root: string): boolean {
  try {
    const available = readFileSync(join(root, "cgroup.controllers"), "utf8").split(/\s+/);
    // Every cgroup but the root of all has this file (cgroups(7)); below that, processes may be in the way.
    const isRoot = !existsSync(join(root, "cgroup.type"));
    return isRoot && CONTROLLERS.every((controller) => available.includes(controller)) && !isReadOnly(root);
  } catch {
    return false;
  }
}

/** Whether it is mounted read-only, as in many containers: root may write to all but that. */
function isReadOnly(root: string): boolean {
  const line = readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .findLast((entry) => entry.split(" ")[4] === root);
  return line?.split(" ")[5]?.split(",").includes("ro") ?? false;
}
