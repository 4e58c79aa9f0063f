// Starts a VM's user network: netguard, and passt as its child. Both outlive this program and end with the VMM.

import { access, chown, mkdir, open, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Deadline } from "../base/deadline.js";
import { pollUntil } from "../base/sleep.js";
import { SmolVMError } from "../errors/smolvm-error.js";
import { throwIfAborted, waitError } from "../errors/wait-errors.js";
import { endProcessGroup } from "../host/end-process.js";
import { bareEnvironment } from "../host/paths.js";
import { spawnProgram } from "../host/process.js";
import { identifyProcess } from "../host/process-identity.js";
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
  readonly deadline: Deadline;
  /** How long the network waits for the VMM before it gives up and ends, in milliseconds. Default 60 000. */
  readonly acceptTimeoutMs?: number;
}

/** A running user network. It ends with its VMM; to end it earlier, end netguard's process group. */
export interface StartedPasst {
  /** netguard's pid; it leads the process group that passt is in too. */
  readonly pid: number;
  /** Takes exactly one VMM: `-netdev stream,server=off,addr.type=unix,addr.path=<socketPath>`. */
  readonly socketPath: string;
}

/** Whom netguard and passt become when this program is root: Debian's, and everybody's, `nobody` and `nogroup`. */
const NOBODY = { uid: 65_534, gid: 65_534 } as const;
const ACCEPT_TIMEOUT_MS = 60_000;
/** Time between SIGTERM and SIGKILL, in milliseconds: netguard ends passt first, and gives it a second. */
const TERM_GRACE_MS = 2_000;
/** What an error keeps of the log, in bytes. netguard bounds the log itself to little more than 64 KiB. */
const LOG_TAIL_BYTES = 4_096;
/** Name of the socket inside `net`. */
const SOCKET_NAME = "vmm.sock";
/** Longest path of a unix socket, in bytes (unix(7), with its final NUL). */
const SOCKET_PATH_LIMIT_BYTES = 107;

/**
 * Starts the user network of one VM and waits until its socket takes the VMM.
 *
 * `dir/net` gets mode 0700 and, under root, belongs to `nobody`: only that uid and root can reach the socket. The
 * processes work with relative paths, so they do not need to get through `dir` itself; a VMM that is not root does.
 * After any failure neither process, socket nor `dir/net` is left.
 *
 * @throws {HOST_UNSUPPORTED} on anything but Linux, or when passt or netguard is not installed.
 * @throws {PORT_IN_USE} when a host port asked for is taken.
 * @throws {NETWORK_FAILED} when passt ends at its start; details hold argv, exitCode, signal and log.
 * @throws {TIMEOUT} when it is not ready by the deadline.
 * @throws {ABORTED} when the deadline's signal fires.
 */
export async function startPasst(options: StartPasstOptions): Promise<StartedPasst> {
  const { deadline } = options;
  const netDir = join(options.dir, "net");
  const socketPath = join(netDir, SOCKET_NAME);
  requireHost(socketPath);
  throwIfAborted("Start of the user network", deadline.signal);
  const runAs = process.getuid?.() === 0 ? NOBODY : undefined;
  const argv = guardArgv(options.plan, {
    guardPath: options.guardPath,
    socketName: SOCKET_NAME,
    runAs,
    acceptTimeoutMs: options.acceptTimeoutMs ?? ACCEPT_TIMEOUT_MS,
  });
  await mkdir(netDir, { mode: 0o700 });
  let running: Running | undefined;
  try {
    if (runAs !== undefined) await chown(netDir, runAs.uid, runAs.gid);
    running = await spawnGuard(argv, netDir);
    const { pid, outcome } = running;
    const isReady = await pollUntil(async () => outcome() ?? (await exists(socketPath)), deadline);
    if (isReady === undefined) throw waitError("Start of the user network", deadline);
    const ended = outcome();
    if (ended !== undefined) throw await passtFailure({ argv, ...ended, log: await tail(netDir) }, options.plan.ports);
    return { pid, socketPath };
  } catch (error) {
    // While its end was not seen the pid is still netguard's: this program is its parent.
    if (running !== undefined && running.outcome() === undefined) {
      const identity = await identifyProcess(running.pid);
      if (identity !== undefined) await endProcessGroup(identity, TERM_GRACE_MS);
    }
    await rm(netDir, { recursive: true, force: true });
    throw error;
  }
}

interface Exit {
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | null;
}

interface Running {
  readonly pid: number;
  /** How it ended, if it did. */
  readonly outcome: () => Exit | undefined;
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

async function spawnGuard(argv: readonly string[], netDir: string): Promise<Running> {
  const log = await open(join(netDir, "network.log"), "ax", 0o600);
  try {
    const child = await spawnProgram(argv, {
      cwd: netDir,
      env: bareEnvironment(),
      stdio: ["ignore", "ignore", log.fd],
      detached: true,
    });
    let ended: Exit | undefined;
    child.once("exit", (exitCode, signal) => {
      ended = { exitCode, signal };
    });
    if (child.exitCode !== null || child.signalCode !== null) {
      ended = { exitCode: child.exitCode, signal: child.signalCode };
    }
    child.unref();
    if (child.pid === undefined) throw new SmolVMError("INTERNAL", "A spawned program has no pid");
    return { pid: child.pid, outcome: () => ended };
  } finally {
    await log.close();
  }
}

async function exists(path: string): Promise<true | undefined> {
  return access(path).then(
    () => true as const,
    () => undefined,
  );
}

async function tail(netDir: string): Promise<string> {
  const log = await open(join(netDir, "network.log"), "r");
  try {
    const { size } = await log.stat();
    const start = Math.max(0, size - LOG_TAIL_BYTES);
    const buffer = Buffer.alloc(size - start);
    const { bytesRead } = await log.read(buffer, 0, buffer.length, start);
    return buffer.toString("utf8", 0, bytesRead);
  } finally {
    await log.close();
  }
}
