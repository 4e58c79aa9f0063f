// Starts the helper that keeps a VMM's outputs in bounded files, whoever of us still runs.

import type { Writable } from "node:stream";
import { spawnProgram } from "../host/process.js";
import { CONSOLE_LOG, LOG_LIMIT_BYTES, MESSAGES_LOG } from "./console-log.js";

/** A started log keeper. */
export interface LogKeeper {
  readonly pid: number;
  /** Write ends for a child to inherit. */
  readonly console: Writable;
  readonly messages: Writable;
  /** Closes our copies of the write ends: the keeper ends when the last other one is closed. */
  handOver(): void;
}

/**
 * @param program The helper's path.
 * @param places `logDir`: where the logs go; `runtimeDir`: the boot that they belong to, for finding the process again.
 */
export async function startLogKeeper(
  program: string,
  places: { readonly logDir: string; readonly runtimeDir: string },
): Promise<LogKeeper> {
  const [consoleFd, messagesFd] = [3, 4];
  const argv = [program, "--dir", places.logDir, "--limit", String(LOG_LIMIT_BYTES)];
  const child = await spawnProgram([...argv, `${CONSOLE_LOG}=${consoleFd}`, `${MESSAGES_LOG}=${messagesFd}`], {
    stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"],
    detached: true,
    cwd: places.runtimeDir,
    env: {},
  });
  child.unref();
  const console = child.stdio[consoleFd] as Writable;
  const messages = child.stdio[messagesFd] as Writable;
  for (const stream of [console, messages]) stream.on("error", () => {}); // The keeper may end first.
  return {
    pid: child.pid as number,
    console,
    messages,
    handOver: () => {
      console.destroy();
      messages.destroy();
    },
  };
}
