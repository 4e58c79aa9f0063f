// Whether a VMM gets a jail, which takes root, a file system that carries one, and a machine whose files can be in it.

import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { findProgram } from "../../host/find-program.js";
import type { FoundFirecracker } from "../../host/firecracker/find-firecracker.js";
import type { Confinement, MachineSpec } from "../backend.js";
import { jailUser } from "./jail-user.js";

/** Programs that put files into a jail without copying them (util-linux). */
const MOUNT_PROGRAMS = ["mount", "umount"];
/** CAP_CHOWN, CAP_SETGID, CAP_SETUID, CAP_SYS_CHROOT, CAP_SYS_ADMIN, CAP_MKNOD by their numbers (capabilities(7)). */
const NEEDED_CAPABILITIES = [0, 6, 7, 18, 21, 27];
/** What a mount must not forbid where a jail is: device files and programs are in it. */
const FORBIDDING = ["nodev", "noexec"];

/** What decides beside the machine. */
export interface ConfinementFacts {
  readonly found: FoundFirecracker;
  /** Below it the jails are. */
  readonly jailsDir: string;
}

/** See {@link Backend.confinementOf}. */
export function confinementOf(machine: MachineSpec, facts: ConfinementFacts): Confinement {
  const ownUid = process.getuid?.() ?? 0;
  const reason = hostReason(facts) ?? machineReason(machine);
  if (reason !== undefined) return { kind: "seccomp", uid: ownUid, reason };
  return { kind: "jailer", uid: jailUser(machine.runtimeDir) };
}

/** Why nothing can have a jail on this host. */
function hostReason({ found, jailsDir }: ConfinementFacts): string | undefined {
  if (process.platform !== "linux" || process.getuid?.() !== 0) return "a jail takes root";
  if (found.jailer === undefined) return found.jailerProblem ?? "jailer is not there";
  if (!hasCapabilities(readFileSync("/proc/self/status", "latin1"))) return "root has not all its capabilities here";
  if (!mapsAllUsers(readFileSync("/proc/self/uid_map", "latin1"))) return "this user namespace has too few users";
  const lacking = MOUNT_PROGRAMS.find((name) => findProgram(name) === undefined);
  if (lacking !== undefined) return `"${lacking}" is not installed`;
  const options = mountOptions(readFileSync("/proc/self/mountinfo", "utf8"), existing(jailsDir));
  const forbidding = FORBIDDING.find((option) => options.includes(option));
  return forbidding === undefined ? undefined : `${jailsDir} is on a file system mounted with ${forbidding}`;
}

/** Why this machine cannot have one. */
function machineReason({ disk, network, runtimeDir }: MachineSpec): string | undefined {
  // It would have to be given to the jail's user, and is not ours to give.
  if (disk.mode === "shared") return "its disk is shared";
  if (network === undefined) return undefined;
  if (network.link?.kind !== "tap") return "its network device makes its own other end";
  const owner = ownerOfTap(network.link.device);
  const isOpen = owner === undefined || owner === NO_OWNER || owner === jailUser(runtimeDir);
  return isOpen ? undefined : `its TAP device belongs to user ${owner}`;
}

/** What the kernel says of a TAP device that everybody may open who may open `/dev/net/tun`. */
const NO_OWNER = -1;

/** @returns `undefined` for a device that is not there. */
function ownerOfTap(device: string): number | undefined {
  try {
    return Number(readFileSync(join("/sys/class/net", device, "owner"), "latin1"));
  } catch {
    return undefined;
  }
}

/** @param status Text of `/proc/self/status`. */
export function hasCapabilities(status: string): boolean {
  const mask = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? "0"}`);
  return NEEDED_CAPABILITIES.every((number) => ((mask >> BigInt(number)) & 1n) === 1n);
}

/** @param map Text of `/proc/self/uid_map` (user_namespaces(7)). */
export function mapsAllUsers(map: string): boolean {
  return /^\s*0\s+0\s+4294967295\s*$/.test(map);
}

/**
 * Options of the mount that a directory is on.
 *
 * @param mountinfo Text of `/proc/self/mountinfo` (proc(5)).
 */
export function mountOptions(mountinfo: string, directory: string): readonly string[] {
  let found = { point: "", options: "" };
  for (const line of mountinfo.split("\n")) {
    const [, , , , rawPoint, options] = line.split(" ");
    if (rawPoint === undefined || options === undefined) continue;
    const point = rawPoint.replaceAll(/\\([0-7]{3})/g, (_, digits: string) =>
      String.fromCharCode(Number.parseInt(digits, 8)),
    );
    const holds = directory === point || directory.startsWith(point === "/" ? "/" : `${point}/`);
    // A later one of the same place is on top.
    if (holds && point.length >= found.point.length) found = { point, options };
  }
  return found.options.split(",");
}

/** The directory, or the closest one above it that exists. */
function existing(directory: string): string {
  return existsSync(directory) ? directory : existing(dirname(directory));
}
