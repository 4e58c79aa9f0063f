// How a command ended, as its caller gets it.

import type { ExecExit } from "./exec-stream.js";
import { signalName } from "./linux-signals.js";
import type { OutputBuffer } from "./output-buffer.js";

/** What a shell reports for a command that a signal ended: this plus the signal's number. */
export const SIGNAL_EXIT_BASE = 128;

/** How a command ended, and what it said. */
export interface CommandResult {
  /** 0 to 255; 128 plus the signal's number when a signal ended it. */
  readonly exitCode: number;
  /** Name of the signal that ended it, else `null`. */
  readonly signal: string | null;
  readonly stdout: string;
  readonly stderr: string;
  /** `stdout` without white space around it. */
  readonly output: string;
  /** True when it exited with 0. */
  readonly ok: boolean;
  /** True when its timeout ended it. */
  readonly timedOut: boolean;
  /** True when `stdout` or `stderr` is not all of it. */
  readonly truncated: boolean;
  readonly durationMs: number;
}

/** Puts together what is known at the end. */
export function commandResult(
  exit: ExecExit,
  outputs: { readonly stdout: OutputBuffer; readonly stderr: OutputBuffer },
  circumstances: Pick<CommandResult, "timedOut" | "durationMs">,
): CommandResult {
  const stdout = outputs.stdout.toString();
  const isSignalled = "signal" in exit;
  const exitCode = isSignalled ? SIGNAL_EXIT_BASE + exit.signal : exit.exitCode;
  return {
    exitCode,
    signal: isSignalled ? signalName(exit.signal) : null,
    stdout,
    stderr: outputs.stderr.toString(),
    output: stdout.trim(),
    ok: exitCode === 0,
    truncated: outputs.stdout.isTruncated || outputs.stderr.isTruncated || exit.droppedBytes > 0n,
    ...circumstances,
  };
}
