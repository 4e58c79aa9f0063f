// netguard and tapguard as children: each inherits its policy, a file for refusals, and a pipe on which it says that
// everything works. The file calls on the way to a start are synchronous, here and in `startUserNetwork`: each takes
// microseconds, and the way through Node.js's threads would cost more than the start of the guard itself.

import { closeSync, openSync } from "node:fs";
import { join } from "node:path";
import type { Writable } from "node:stream";
import { foreignLogTail, openForeignLog } from "../host/foreign-log.js";
import { bareEnvironment } from "../host/paths.js";
import { spawnProgram } from "../host/process.js";
import { type ReadyChild, watchReady } from "../host/ready-child.js";
import type { EnforcedPolicy } from "./network-plan.js";
import { POLICY_FD, READY_FD } from "./passt-argv.js";

/** Name of the socket between VMM and netguard inside the guard's directory. */
export const SOCKET_NAME = "vmm.sock";
/** The socket's name until it takes connections; not longer than its own. */
export const UNREADY_SOCKET_NAME = "vmm.new";
/** Where a guard takes orders. */
export const CONTROL_NAME = "ctl.sock";
/** In the guard's own directory. The guards bound it to little more than 64 KiB. */
const LOG_NAME = "network.log";

/** Directory of a guard, in that of the VM's sockets. */
export function guardDirectory(dir: string): string {
  return join(dir, "net");
}

/** What a guard is started with. */
export interface GuardStart {
  readonly argv: readonly string[];
  /** Its working directory, which is its own. */
  readonly directory: string;
  readonly policy: EnforcedPolicy;
  /** File that it adds refusals to, one JSON text a line. */
  readonly refusalsPath: string;
}

/**
 * Starts a guard. Neither it nor its pipe keeps this program alive.
 *
 * @throws {NETWORK_FAILED} when its log cannot be opened. @throws {HOST_UNSUPPORTED} when it is not installed.
 */
export async function spawnGuard({ argv, directory, policy, refusalsPath }: GuardStart): Promise<ReadyChild> {
  const logFd = openForeignLog(join(directory, LOG_NAME), "a network's guard");
  let refusalsFd: number | undefined;
  try {
    refusalsFd = openSync(refusalsPath, "a+", 0o600);
    const child = await spawnProgram(argv, {
      cwd: directory,
      env: bareEnvironment(),
      // In the order of POLICY_FD, REFUSALS_FD and READY_FD.
      stdio: ["ignore", "ignore", logFd, "pipe", refusalsFd, "pipe"],
      detached: true,
    });
    const input = child.stdio[POLICY_FD] as Writable;
    input.on("error", () => {}); // It may have ended; that is told below.
    // It is a socket: without this it would stay open, and keep this program alive, until the guard closes its end.
    input.end(JSON.stringify(policy), () => input.destroy());
    return watchReady(child, READY_FD);
  } finally {
    closeSync(logFd);
    if (refusalsFd !== undefined) closeSync(refusalsFd);
  }
}

/** The last of what a guard and its children wrote; empty when their directory has gone. */
export function guardLog(directory: string): Promise<string> {
  return foreignLogTail(join(directory, LOG_NAME));
}
