// A process as more than a number: pid, start time and boot id together name it for good.
// A bare pid may belong to somebody else by the time it is used.

import { readdirSync, readFileSync } from "node:fs";
import { runProgram } from "./process.js";

/** What identifies one process on one boot of one host. */
export interface ProcessIdentity {
  readonly pid: number;
  /** Linux: clock ticks since boot, field 22 of `/proc/PID/stat` (proc(5)). macOS: text of `ps -o lstart`. */
  readonly startTime: string;
  /** `/proc/sys/kernel/random/boot_id`, or the boot time on macOS. */
  readonly bootId: string;
}

let cachedBootId: string | undefined;

/** The identity of a process that runs now; `undefined` when there is none of this pid, or it is a zombie. */
export async function identifyProcess(pid: number): Promise<ProcessIdentity | undefined> {
  if (process.platform === "linux") return identifyOnLinux(pid);
  return identifyWithPs(pid);
}

/** Linux only, synchronous: usable inside a database transaction. */
export function identifyOnLinux(pid: number): ProcessIdentity | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, "latin1");
  } catch {
    return undefined;
  }
  // The command name may hold spaces and parentheses: fields count from the last one.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const state = fields[0];
  const startTime = fields[19];
  if (state === "X" || startTime === undefined) return undefined;
  if (state === "Z" && !hasOtherThreads(pid)) return undefined;
  return { pid, startTime, bootId: bootId() };
}

/**
 * Whether threads beside the first are there: that one can be a zombie before the others have ended, and with them what
 * all of them share, such as a port that the process listens on.
 */
function hasOtherThreads(pid: number): boolean {
  try {
    return readdirSync(`/proc/${pid}/task`).length > 1;
  } catch {
    return false;
  }
}

/**
 * True when exactly this process still runs and is not about to end: one that was killed is {@link isAlive} until its last
 * thread has let go of what they share, but does nothing any more.
 */
export async function isRunning(identity: ProcessIdentity): Promise<boolean> {
  return (await isAlive(identity)) && !isEnding(identity.pid);
}

/** PF_EXITING of linux/sched.h: set before a process closes its files, whose other ends may hear of it first. */
const EXITING_FLAG = 0x4;

function isEnding(pid: number): boolean {
  if (process.platform !== "linux") return false;
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" || (Number(fields[6]) & EXITING_FLAG) !== 0;
  } catch {
    return true; // It has ended.
  }
}

/** True when exactly this process still runs, or is ending. */
export async function isAlive(identity: ProcessIdentity): Promise<boolean> {
  if (identity.bootId !== bootId()) return false;
  const now = await identifyProcess(identity.pid);
  return now !== undefined && now.startTime === identity.startTime;
}

let ownIdentity: Promise<ProcessIdentity> | undefined;

/** This process's own identity. */
export function selfIdentity(): Promise<ProcessIdentity> {
  ownIdentity ??= identifyProcess(process.pid).then(
    (identity) => identity ?? { pid: process.pid, startTime: "0", bootId: bootId() },
  );
  return ownIdentity;
}

/**
 * Sends a signal only if the pid still belongs to this process.
 *
 * @param target `"process"`, or `"group"` for the process group that it leads.
 * @returns False when the process is gone, or is another one by now: nothing was signalled.
 */
export async function signalProcess(
  identity: ProcessIdentity,
  signal: NodeJS.Signals,
  target: "process" | "group" = "process",
): Promise<boolean> {
  if (!(await isAlive(identity))) return false;
  try {
    process.kill(target === "group" ? -identity.pid : identity.pid, signal);
    return true;
  } catch {
    return false;
  }
}

function bootId(): string {
  cachedBootId ??=
    process.platform === "linux" ? readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim() : "-";
  return cachedBootId;
}

async function identifyWithPs(pid: number): Promise<ProcessIdentity | undefined> {
  const { stdout, exitCode } = await runProgram(["ps", "-o", "lstart=", "-p", String(pid)], { okExitCodes: [0, 1] });
  const startTime = stdout.trim();
  return exitCode === 0 && startTime !== "" ? { pid, startTime, bootId: bootId() } : undefined;
}
