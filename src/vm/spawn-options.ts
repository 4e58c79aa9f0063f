// How a caller starts a process or attaches to one, checked before the guest hears of it.

import { invalidConfig } from "../errors/invalid-config.js";
import type { CommandInput } from "../guest/command-input.js";
import type { PtySize } from "../guest/exec-request.js";
import { checkPtySize } from "../guest/guest-process.js";
import {
  type CheckedCommandOptions,
  type CommandOptions,
  checkCommandOptions,
  DEFAULT_OUTPUT_LIMIT_BYTES,
} from "./command-options.js";

/** Options of `spawn`. */
export interface SpawnOptions extends Omit<CommandOptions, "onOutput" | "stdin" | "check"> {
  /** Given to the process; by default what is written to `GuestProcess.stdin`; `null`: it gets none. */
  readonly stdin?: CommandInput | null | undefined;
  /** A pseudo-terminal of this size; all output is `stdout` then. `null`, the default of `spawn`: none. */
  readonly pty?: PtySize | null | undefined;
  /**
   * It goes on when this program ends, and others can attach to it. Once it has started it keeps this program from ending
   * only while somebody awaits it or iterates over it. Default false.
   */
  readonly detached?: boolean | undefined;
  /** At least 1; default `Infinity`. When it passes the process group is killed, and the result says so. */
  readonly timeoutMs?: number | undefined;
  /** Reject with `COMMAND_FAILED`, `COMMAND_TIMEOUT` or `ABORTED` instead of giving such a result. Default false. */
  readonly check?: boolean | undefined;
}

/** Options with their defaults. */
export interface CheckedSpawnOptions extends Omit<CheckedCommandOptions, "onOutput" | "stdin"> {
  readonly stdin: CommandInput | null | undefined;
  readonly pty: PtySize | undefined;
  readonly detached: boolean | undefined;
}

/** Options of `processes.attach`. */
export interface AttachOptions {
  /** Where its output is to begin, in bytes since its start; default the oldest that is kept. */
  readonly offset?: number | undefined;
  /** What is kept of each output for the result, in bytes; default 10 MiB. */
  readonly maxOutputBytes?: number | undefined;
  /** Lets the process go, alive. */
  readonly signal?: AbortSignal | undefined;
  /** When it passes the process is let go, alive. Default `Infinity`. */
  readonly timeoutMs?: number | undefined;
}

/** @throws {INVALID_CONFIG} naming the option. */
export function checkSpawnOptions(options: SpawnOptions = {}): CheckedSpawnOptions {
  const { stdin, pty, detached, ...rest } = options;
  if ("onOutput" in options) {
    throw invalidConfig({ field: "onOutput", value: "a function", expected: "nothing: iterate over the process" });
  }
  const checked = checkCommandOptions({ timeoutMs: Number.POSITIVE_INFINITY, ...rest, stdin: stdin ?? undefined });
  if (pty !== undefined && pty !== null) checkPtySize(pty);
  if (detached !== undefined && typeof detached !== "boolean") {
    throw invalidConfig({ field: "detached", value: detached, expected: "true or false" });
  }
  return { ...checked, stdin, pty: pty ? { cols: pty.cols, rows: pty.rows } : undefined, detached };
}

/** @throws {INVALID_CONFIG} naming the option. */
export function checkAttachOptions(options: AttachOptions = {}): AttachOptions & { readonly maxOutputBytes: number } {
  const { offset, ...rest } = options;
  if (offset !== undefined && !(Number.isSafeInteger(offset) && offset >= 0)) {
    throw invalidConfig({ field: "offset", value: offset, expected: "a whole number from 0" });
  }
  checkCommandOptions(rest);
  return { ...options, maxOutputBytes: options.maxOutputBytes ?? DEFAULT_OUTPUT_LIMIT_BYTES };
}
