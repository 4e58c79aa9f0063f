// SmolVM's own program `portd` as a child: it inherits a lane to the guest and the host ports that it is to accept from.

import { closeSync } from "node:fs";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { foreignLogTail, openForeignLog } from "../../host/foreign-log.js";
import { spawnProgram } from "../../host/process.js";
import { type ReadyChild, watchReady } from "../../host/ready-child.js";
import type { UserIds } from "../../network/unprivileged-user.js";

/** Name of its control socket in its directory, which is its working directory: root's may be closed to it. */
export const CONTROL_NAME = "control.sock";
const LOG_NAME = "ports.log";
/** Descriptors of the child; those of the ports follow. */
const LANE_FD = 3;
const READY_FD = 4;
const FIRST_PORT_FD = 5;

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

/** @throws {NETWORK_FAILED} when its log cannot be opened. @throws {HOST_UNSUPPORTED} {HOST_COMMAND_FAILED} {STORAGE_FAILED} */
export async function startPortServer({ listeners, ...start }: PortServerStart): Promise<ReadyChild> {
  const { program, directory, lane, runAs } = start;
  const argv = [
    program,
    ...["-lane-fd", String(LANE_FD), "-ready-fd", String(READY_FD), "-control", CONTROL_NAME],
    ...(runAs === undefined ? [] : ["-runas", `${runAs.uid}:${runAs.gid}`]),
    ...listeners.flatMap(({ guestPort }, index) => ["-listener", `${FIRST_PORT_FD + index}:${guestPort}`]),
  ];
  try {
    const logFd = openForeignLog(join(directory, LOG_NAME), "port forwards");
    try {
      const child = await spawnProgram(argv, {
        stdio: ["ignore", "ignore", logFd, lane, "pipe", ...listeners.map(({ fd }) => fd)],
        detached: true,
        cwd: directory,
        env: {},
      });
      return watchReady(child, READY_FD);
    } finally {
      closeSync(logFd);
    }
  } finally {
    lane.destroy(); // Before the child has spoken: what the guest answers must not be read here.
  }
}

/** The last of what it wrote. */
export function portServerLog(directory: string): Promise<string> {
  return foreignLogTail(join(directory, LOG_NAME));
}
