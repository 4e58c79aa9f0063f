// Starts a VM's user network: netguard, which starts passt. Both outlive this program and end with the VMM. Should
// netguard die before, nothing is carried until another one is started, which the VMM takes instead.

import { chownSync, lchownSync, mkdirSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { Deadline } from "../base/deadline.js";
import { SmolVMError } from "../errors/smolvm-error.js";
import { throwIfAborted } from "../errors/wait-errors.js";
import { awaitGuard } from "./await-guard.js";
import {
  CONTROL_NAME,
  guardDirectory,
  guardLog,
  SOCKET_NAME,
  spawnGuard,
  UNREADY_SOCKET_NAME,
} from "./guard-process.js";
import { type ListeningSocket, listenOn } from "./listening-socket.js";
import type { UserNetworkPlan } from "./network-plan.js";
import { guardArgv } from "./passt-argv.js";
import { passtFailure } from "./passt-failure.js";
import { unprivilegedUser } from "./unprivileged-user.js";

/** What {@link startUserNetwork} needs. */
export interface StartUserNetworkOptions {
  /** The VM's own directory. A sub-directory `net` is made in it; it must not exist yet, except for a restart. */
  readonly dir: string;
  readonly plan: UserNetworkPlan;
  /** Path of the `netguard` program. */
  readonly guardPath: string;
  /** File for refusals, see docs/network.md. */
  readonly refusalsPath: string;
  /** Bound of {@link StartedUserNetwork.ready}. */
  readonly deadline: Deadline;
  /** How long the network waits for the VMM before it gives up and ends, in milliseconds. Default 60 000. */
  readonly acceptTimeoutMs?: number;
}

/** A user network whose VMM is to be started. It ends with it; to end it earlier, end netguard's process group. */
export interface StartedUserNetwork {
  /** netguard's pid; it leads the process group that passt is in too. */
  readonly pid: number;
  /** The VMM inherits it and listens: `-netdev stream,server=on,addr.type=fd`. To be handed over after the VMM's start. */
  readonly socket: ListeningSocket;
  /**
   * Resolves when frames are carried; not before the socket was handed over. It may be left alone: a rejection that
   * nobody waits for is not reported. When it has rejected, neither process nor `dir/net` is left.
   *
   * @throws {HOST_UNSUPPORTED} when passt is not installed.
   * @throws {NETWORK_FAILED} when passt ends at its start; details hold argv, exitCode, signal and log.
   * @throws {TIMEOUT} when it is not ready by the deadline.
   * @throws {ABORTED} when the deadline's signal fires before.
   */
  readonly ready: Promise<void>;
}

const ACCEPT_TIMEOUT_MS = 60_000;
/** Longest path of a unix socket, in bytes (unix(7), with its final NUL). */
const SOCKET_PATH_LIMIT_BYTES = 107;
const ACTION = "Start of the user network";

/**
 * Starts the user network of one VM and returns at once; `ready` tells the rest.
 *
 * `dir/net` gets mode 0700 and, under root, belongs to `nobody`: only that uid and root can reach the sockets. The
 * processes work with relative paths, so they do not need to get through `dir` itself. After any failure neither process,
 * socket nor `dir/net` is left.
 *
 * @throws {HOST_UNSUPPORTED} on anything but Linux, or when netguard is not installed.
 * @throws {NETWORK_FAILED} when the socket cannot be made.
 * @throws {ABORTED} when the deadline's signal has fired already.
 */
export async function startUserNetwork(options: StartUserNetworkOptions): Promise<StartedUserNetwork> {
  const netDir = guardDirectory(options.dir);
  const socketPath = join(netDir, SOCKET_NAME);
  requireHost(socketPath);
  throwIfAborted(ACTION, options.deadline.signal);
  mkdirSync(netDir, { mode: 0o700 });
  let socket: ListeningSocket | undefined;
  try {
    const owner = unprivilegedUser();
    const unreadyPath = join(netDir, UNREADY_SOCKET_NAME);
    socket = await listenOn(socketPath, unreadyPath);
    if (owner !== undefined) {
      lchownSync(unreadyPath, owner.uid, owner.gid);
      chownSync(netDir, owner.uid, owner.gid);
    }
    const started = await startGuard(options, netDir);
    const ready = started.ready.catch(async (error: unknown) => {
      await rm(netDir, { recursive: true, force: true });
      throw error;
    });
    ready.catch(() => {}); // Whoever does not wait for it yet may do so later.
    return { pid: started.pid, socket, ready };
  } catch (error) {
    socket?.handOver();
    await rm(netDir, { recursive: true, force: true });
    throw error;
  }
}

/**
 * Starts another netguard for a VMM that runs, after the first one died. Throws as {@link startUserNetwork}; `ready`
 * likewise, but `dir/net` stays.
 */
export async function restartUserNetwork(
  options: StartUserNetworkOptions,
): Promise<Omit<StartedUserNetwork, "socket">> {
  throwIfAborted(ACTION, options.deadline.signal);
  const started = await startGuard(options, guardDirectory(options.dir));
  started.ready.catch(() => {});
  return started;
}

async function startGuard(
  options: StartUserNetworkOptions,
  directory: string,
): Promise<Omit<StartedUserNetwork, "socket">> {
  const argv = guardArgv(options.plan, {
    guardPath: options.guardPath,
    socketName: SOCKET_NAME,
    controlName: CONTROL_NAME,
    runAs: unprivilegedUser(),
    acceptTimeoutMs: options.acceptTimeoutMs ?? ACCEPT_TIMEOUT_MS,
  });
  const { policy } = options.plan;
  const guard = await spawnGuard({ argv, directory, policy, refusalsPath: options.refusalsPath });
  const failure = async (end: { exitCode: number | null; signal: NodeJS.Signals | null }) =>
    passtFailure({ argv, ...end, log: await guardLog(directory) });
  return { pid: guard.pid, ready: awaitGuard(guard, { action: ACTION, deadline: options.deadline, failure }) };
}

function requireHost(socketPath: string): void {
  if (process.platform !== "linux") {
    throw new SmolVMError(
      "HOST_UNSUPPORTED",
      `Cannot start the user network: passt does not exist for ${process.platform}`,
      {
        details: { platform: process.platform },
        hint: 'Use network: "none".',
      },
    );
  }
  const sizeBytes = Buffer.byteLength(socketPath);
  if (sizeBytes > SOCKET_PATH_LIMIT_BYTES) {
    throw new SmolVMError(
      "NETWORK_FAILED",
      `Cannot use socket "${socketPath}": ${sizeBytes} bytes, at most ${SOCKET_PATH_LIMIT_BYTES}`,
      {
        details: { socketPath, sizeBytes },
      },
    );
  }
}
