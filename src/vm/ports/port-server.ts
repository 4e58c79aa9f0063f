// SmolVM's own program `portd` as a child: it inherits a lane to the guest and the host ports that it is to accept from.

import { closeSync } from "node:fs";
import { join } from "node:path";
import type { Duplex, Readable } from "node:stream";
import { SmolVMError } from "../../errors/smolvm-error.js";
import { foreignLogTail, openForeignLog } from "../../host/foreign-log.js";
import { spawnProgram } from "../../host/process.js";
import type { UserIds } from "../../network/unprivileged-user.js";

/** Name of its control socket in its directory, which is its working directory: root's may be closed to it. */
export const CONTROL_NAME = "control.sock";
const LOG_NAME = "ports.log";
/** Descriptors of the child; those of the ports follow. */
const LANE_FD = 3;
const READY_FD = 4;
const FIRST_PORT_FD = 5;
/** What it writes once it takes connections and orders. */
const READY_LINE = "ready\n";

type Child = Awaited<ReturnType<typeof spawnProgram>>;

/** What the child is started with. */
export interface PortServerStart {
  /** The helper's path. */
  readonly program: string;
  /** Its working directory, empty, which belongs to `runAs`. */
  readonly directory: string;
  /** Closed here in any case. */
  readonly lane: Duplex;
  /** Whom to become; `undefined`: this program's user. */
  readonly runAs: UserIds | undefined;
  readonly listeners: readonly { readonly fd: number; readonly guestPort: number }[];
}

/** How it ended. */
export interface PortServerEnd {
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | null;
  /** The last of what it wrote. */
  readonly log: string;
}

/** A child that was started. It does not keep this program alive. */
export interface PortServer {
  readonly pid: number;
  /** Resolves with `undefined` once every port is served, or with how it ended before that. Never rejects. */
  readonly settled: Promise<PortServerEnd | undefined>;
  /** Stops listening to it. */
  forget(): void;
}

/** @throws {NETWORK_FAILED} when its log cannot be opened. @throws {HOST_UNSUPPORTED} {HOST_COMMAND_FAILED} {STORAGE_FAILED} */
export async function startPortServer({ listeners, ...start }: PortServerStart): Promise<PortServer> {
  const { program, directory, lane, runAs } = start;
  const argv = [
    program,
    ...["-lane-fd", String(LANE_FD), "-ready-fd", String(READY_FD), "-control", CONTROL_NAME],
    ...(runAs === undefined ? [] : ["-runas", `${runAs.uid}:${runAs.gid}`]),
    ...listeners.flatMap(({ guestPort }, index) => ["-listener", `${FIRST_PORT_FD + index}:${guestPort}`]),
  ];
  try {
    const logFd = openLog(directory);
    try {
      const child = await spawnProgram(argv, {
        stdio: ["ignore", "ignore", logFd, lane, "pipe", ...listeners.map(({ fd }) => fd)],
        detached: true,
        cwd: directory,
        env: {},
      });
      return watch(child, directory);
    } finally {
      closeSync(logFd);
    }
  } finally {
    lane.destroy(); // Before the child has spoken: what the guest answers must not be read here.
  }
}

function openLog(directory: string): number {
  try {
    return openForeignLog(join(directory, LOG_NAME));
  } catch (error) {
    const reason = (error as NodeJS.ErrnoException).code;
    throw new SmolVMError("NETWORK_FAILED", `Cannot open the log of port forwards: ${reason}`, {
      details: { directory, reason },
      cause: error,
    });
  }
}

function watch(child: Child, directory: string): PortServer {
  const pipe = child.stdio[READY_FD] as Readable & { unref(): void };
  const ended = new Promise<void>((resolve) => {
    child.once("exit", () => resolve());
    if (child.exitCode !== null || child.signalCode !== null) resolve();
  });
  const said = new Promise<boolean>((resolve) => {
    pipe.on("error", () => {}); // "close" follows.
    pipe.once("data", (data: Buffer) => resolve(data.toString("latin1") === READY_LINE));
    pipe.once("close", () => resolve(false));
  });
  const end = async () => {
    await ended;
    return { exitCode: child.exitCode, signal: child.signalCode, log: await foreignLogTail(join(directory, LOG_NAME)) };
  };
  child.unref();
  pipe.unref();
  if (child.pid === undefined) throw new SmolVMError("INTERNAL", "A spawned program has no pid");
  return {
    pid: child.pid,
    settled: said.then((isReady) => (isReady ? undefined : end())),
    forget: () => void pipe.destroy(),
  };
}
