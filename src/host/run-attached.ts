// A program that has this program's terminal: it reads our stdin and writes to our outputs itself.

import { once } from "node:events";
import { constants } from "node:os";
import { spawnProgram } from "./process.js";

/** What a shell reports for a program that a signal ended: this plus the signal's number. */
const SIGNAL_EXIT_BASE = 128;

/**
 * Runs a program on our own stdin, stdout and stderr, in our process group, so that the terminal's signals reach it. It is
 * not bounded: whoever sits at the terminal ends it.
 *
 * @param signal Sends it SIGTERM.
 * @returns Its exit code, as a shell would tell it. @throws {HOST_UNSUPPORTED} when it is not installed.
 */
export async function runAttached(argv: readonly string[], signal?: AbortSignal): Promise<number> {
  const child = await spawnProgram(argv, { stdio: "inherit" });
  const end = () => child.kill("SIGTERM");
  signal?.addEventListener("abort", end, { once: true });
  if (signal?.aborted) end();
  try {
    const [code, killedBy] = (await once(child, "exit")) as [number | null, NodeJS.Signals | null];
    return code ?? SIGNAL_EXIT_BASE + (killedBy === null ? 0 : constants.signals[killedBy]);
  } finally {
    signal?.removeEventListener("abort", end);
  }
}

/**
 * Makes the terminal show what a program writes as it is. Node.js's raw mode leaves it to the terminal to begin a line anew
 * at each line feed (libuv's UV_TTY_MODE_RAW sets ONLCR), which programs on a terminal of their own have done already.
 * Switching raw mode off takes this back too. Where there is no `stty` nothing changes.
 */
export async function showOutputAsItIs(): Promise<void> {
  await runAttached(["stty", "-opost"]).catch(() => {});
}
