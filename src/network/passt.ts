// Starts a VM's user network: netguard, and passt as its child. Both outlive this program and end with the VMM.

import { chownSync, mkdirSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { Deadline } from "../base/deadline.js";
import { within } from "../base/within.js";
import { SmolVMError } from "../errors/smolvm-error.js";
import { throwIfAborted, waitError } from "../errors/wait-errors.js";
import { endProcessGroup } from "../host/end-process.js";
import { identifyProcess } from "../host/process-identity.js";
import { type GuardProcess, guardLog, SOCKET_NAME, spawnGuard } from "./guard-process.js";
import type { UserNetworkPlan } from "./network-plan.js";
import { guardArgv } from "./passt-argv.js";
import { passtFailure } from "./passt-failure.js";

/** What {@link startPasst} needs. */
export interface StartPasstOptions {
  /** The VM's own directory. A sub-directory `net` is made in it; it must not exist yet. */
  readonly dir: string;
  readonly plan: UserNetworkPlan;
  /** Path of the `netguard` program. */
  readonly guardPath: string;
  /** Bound of {@link StartedPasst.ready}. */
  readonly deadline: Deadline;
  /** How long a network that is ready waits for the VMM before it gives up and ends, in milliseconds. Default 60 000. */
  readonly acceptTimeoutMs?: number;
}

/** A user network that takes its VMM. It ends with it; to end it earlier, end netguard's process group. */
export interface StartedPasst {
  /** netguard's pid; it leads the process group that passt is in too. */
  readonly pid: number;
  /**
   * Takes exactly one VMM, from now on: `-netdev stream,server=off,addr.type=unix,addr.path=<socketPath>`. What its
   * guest sends before the network is ready waits in the socket.
   */
  readonly socketPath: string;
  /**
   * Resolves when passt answers and every port is forwarded. It may be left alone: a rejection that nobody waits for
   * is not reported. When it has rejected, neither process, socket nor `dir/net` is left.
   *
   * @throws {HOST_UNSUPPORTED} when passt is not installed.
   * @throws {PORT_IN_USE} when a host port asked for is taken.
   * @throws {NETWORK_FAILED} when passt ends at its start; details hold argv, exitCode, signal and log.
   * @throws {TIMEOUT} when it is not ready by the deadline.
   * @throws {ABORTED} when the deadline's signal fires before.
   */
  readonly ready: Promise<void>;
}

/** Whom netguard and passt become when this program is root: Debian's, and everybody's, `nobody` and `nogroup`. */
const NOBODY = { uid: 65_534, gid: 65_534 } as const;
const ACCEPT_TIMEOUT_MS = 60_000;
/** Time between SIGTERM and SIGKILL, in milliseconds: netguard ends passt first, and gives it a second. */
const TERM_GRACE_MS = 2_000;
/** Longest path of a unix socket, in bytes (unix(7), with its final NUL). */
const SOCKET_PATH_LIMIT_BYTES = 107;
const ACTION = "Start of the user network";

/**
 * Starts the user network of one VM and returns as soon as its socket takes the VMM; `ready` tells the rest.
 *
 * `dir/net` gets mode 0700 and, under root, belongs to `nobody`: only that uid and root can reach the socket. The
 * processes work with relative paths, so they do not need to get through `dir` itself; a VMM that is not root does.
 * After any failure neither process, socket nor `dir/net` is left.
 *
 * @throws {HOST_UNSUPPORTED} on anything but Linux, or when netguard is not installed.
 * @throws {NETWORK_FAILED} when the socket cannot be made.
 * @throws {ABORTED} when the deadline's signal has fired already.
 */
export async function startPasst(options: StartPasstOptions): Promise<StartedPasst> {
  const netDir = join(options.dir, "net");
  const socketPath = join(netDir, SOCKET_NAME);
  requireHost(socketPath);
  throwIfAborted(ACTION, options.deadline.signal);
  const runAs = process.getuid?.() === 0 ? NOBODY : undefined;
  const argv = guardArgv(options.plan, {
    guardPath: options.guardPath,
    socketName: SOCKET_NAME,
    runAs,
    acceptTimeoutMs: options.acceptTimeoutMs ?? ACCEPT_TIMEOUT_MS,
  });
  mkdirSync(netDir, { mode: 0o700 });
  try {
    if (runAs !== undefined) chownSync(netDir, runAs.uid, runAs.gid);
    const guard = await spawnGuard(argv, netDir, runAs);
    const ready = awaitReady(guard, { argv, netDir, options });
    ready.catch(() => {}); // Whoever does not wait for it yet may do so later.
    return { pid: guard.pid, socketPath, ready };
  } catch (error) {
    await rm(netDir, { recursive: true, force: true });
    throw error;
  }
}

interface Start {
  readonly argv: readonly string[];
  readonly netDir: string;
  readonly options: StartPasstOptions;
}

/** While it waits its timer keeps this program alive, so that what follows is still done. */
async function awaitReady(guard: GuardProcess, { argv, netDir, options }: Start): Promise<void> {
  const { deadline, plan } = options;
  try {
    const ended = await within(guard.settled, deadline, () => {
      throw waitError(ACTION, deadline);
    });
    if (ended !== undefined) throw await passtFailure({ argv, ...ended, log: await guardLog(netDir) }, plan.ports);
  } catch (error) {
    // While its end was not seen the pid is still netguard's: this program is its parent.
    const identity = guard.hasEnded() ? undefined : await identifyProcess(guard.pid);
    if (identity !== undefined) await endProcessGroup(identity, TERM_GRACE_MS);
    await rm(netDir, { recursive: true, force: true });
    throw error;
  } finally {
    guard.forget();
  }
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
