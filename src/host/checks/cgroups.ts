// Can this process put a VMM into a cgroup of its own? Answered by making one and removing it.

import { mkdir, readFile, rmdir } from "node:fs/promises";
import { join } from "node:path";
import type { CheckContext, CheckResult, HostCheck } from "./check.js";

const CGROUP_ROOT = "/sys/fs/cgroup";
/** Controllers that a VM's limits use. */
const CONTROLLERS = ["cpu", "memory", "pids"];

/** Resource limits by cgroup. */
export const cgroupsCheck: HostCheck = { id: "cgroups", title: "Cgroups", requiredFor: "limits", run: checkCgroups };

async function checkCgroups({ platform }: CheckContext): Promise<CheckResult> {
  if (platform !== "linux") return { status: "warn", found: "cgroups exist on Linux only" };
  const own = parseOwnCgroup(await readFile("/proc/self/cgroup", "utf8"));
  const available = await readFile(join(CGROUP_ROOT, "cgroup.controllers"), "utf8").catch(() => undefined);
  if (own === undefined || available === undefined) {
    return {
      status: "warn",
      found: "no unified hierarchy (cgroup v2) at /sys/fs/cgroup",
      remedy: "Nothing to do for this version, which does not use cgroups; a later one will want cgroup v2.",
    };
  }
  const lacking = CONTROLLERS.filter((controller) => !available.split(/\s+/).includes(controller));
  if (lacking.length > 0) return { status: "warn", found: `cgroup v2 without ${lacking.join(", ")}` };
  const refused = await tryToMakeOne(join(CGROUP_ROOT, own));
  if (refused === undefined) return { status: "ok", found: `cgroup v2, writable at ${own}` };
  return {
    status: "warn",
    found: `cgroup v2, but not writable at ${own} (${refused})`,
    remedy: "Run as root, or inside `systemd-run --user --scope -p Delegate=yes`.",
  };
}

/** This process's place in the unified hierarchy: the line `0::PATH` of /proc/self/cgroup (cgroups(7)). */
export function parseOwnCgroup(text: string): string | undefined {
  return /^0::(\/.*)$/m.exec(text)?.[1];
}

async function tryToMakeOne(parent: string): Promise<string | undefined> {
  const probe = join(parent, `smolvm-doctor-${process.pid}`);
  try {
    await mkdir(probe);
    await rmdir(probe);
    return undefined;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error);
  }
}
