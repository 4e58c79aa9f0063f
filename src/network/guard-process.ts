// netguard as a child: it inherits the listening socket, and a pipe on which it says that everything works.
// The file calls on the way to a start are synchronous, here and in `startPasst`: each takes microseconds, and the way
// through Node.js's threads would cost more than the start of netguard itself, with the VMM waiting for it.

import { closeSync, lchownSync, openSync } from "node:fs";
import { open } from "node:fs/promises";
import type { Socket } from "node:net";
import { join } from "node:path";
import { SmolVMError } from "../errors/smolvm-error.js";
import { bareEnvironment } from "../host/paths.js";
import { spawnProgram } from "../host/process.js";
import { listenOn } from "./listening-socket.js";
import { READY_FD } from "./passt-argv.js";

/** Name of the socket inside netguard's directory. */
export const SOCKET_NAME = "vmm.sock";
/** The socket's name until it takes connections; not longer than its own. */
const UNREADY_SOCKET_NAME = "vmm.new";
const LOG_NAME = "network.log";
/** What an error keeps of the log, in bytes. netguard bounds the log itself to little more than 64 KiB. */
const LOG_TAIL_BYTES = 4_096;
/** What netguard writes to its pipe, once. */
const READY_LINE = "ready\n";

/** How netguard ended. */
export interface GuardExit {
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** A netguard that was started, and whose socket takes the VMM. */
export interface GuardProcess {
  readonly pid: number;
  /** Resolves with `undefined` when everything works, or with how netguard ended before that. Never rejects. */
  readonly settled: Promise<GuardExit | undefined>;
  readonly hasEnded: () => boolean;
  /** Closes the pipe: whether netguard is ready is nobody's concern any more. */
  forget(): void;
}

/**
 * Starts netguard in `netDir`, which must be empty. Neither it nor its pipe keeps this program alive.
 *
 * @param owner Who gets the socket; this program's user by default.
 */
export async function spawnGuard(
  argv: readonly string[],
  netDir: string,
  owner: { readonly uid: number; readonly gid: number } | undefined,
): Promise<GuardProcess> {
  const socketPath = join(netDir, SOCKET_NAME);
  const socket = await listenOn(socketPath, join(netDir, UNREADY_SOCKET_NAME));
  try {
    if (owner !== undefined) lchownSync(socketPath, owner.uid, owner.gid);
    const logFd = openSync(join(netDir, LOG_NAME), "ax", 0o600);
    try {
      const child = await spawnProgram(argv, {
        cwd: netDir,
        env: bareEnvironment(),
        // In the order of LISTEN_FD and READY_FD.
        stdio: ["ignore", "ignore", logFd, socket.fd, "pipe"],
        detached: true,
      });
      return watch(child);
    } finally {
      closeSync(logFd);
    }
  } finally {
    socket.close();
  }
}

function watch(child: Awaited<ReturnType<typeof spawnProgram>>): GuardProcess {
  const pipe = child.stdio[READY_FD] as Socket;
  const ended = new Promise<GuardExit>((resolve) => {
    const settle = () => resolve({ exitCode: child.exitCode, signal: child.signalCode });
    child.once("exit", settle);
    if (hasEnded()) settle();
  });
  const said = new Promise<boolean>((resolve) => {
    pipe.on("error", () => {}); // "close" follows.
    pipe.once("data", (data: Buffer) => resolve(data.toString("latin1") === READY_LINE));
    pipe.once("close", () => resolve(false));
  });
  function hasEnded(): boolean {
    return child.exitCode !== null || child.signalCode !== null;
  }
  child.unref();
  pipe.unref();
  if (child.pid === undefined) throw new SmolVMError("INTERNAL", "A spawned program has no pid");
  return {
    pid: child.pid,
    settled: said.then((isReady) => (isReady ? undefined : ended)),
    hasEnded,
    forget: () => void pipe.destroy(),
  };
}

/** The last of what netguard and passt wrote; empty when their directory has gone. */
export async function guardLog(netDir: string): Promise<string> {
  try {
    const log = await open(join(netDir, LOG_NAME), "r");
    try {
      const { size } = await log.stat();
      const start = Math.max(0, size - LOG_TAIL_BYTES);
      const buffer = Buffer.alloc(size - start);
      const { bytesRead } = await log.read(buffer, 0, buffer.length, start);
      return buffer.toString("utf8", 0, bytesRead);
    } finally {
      await log.close();
    }
  } catch {
    return "";
  }
}
