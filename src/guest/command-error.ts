// The error of a command that ran: its result is what a caller wants of it.

import type { Deadline } from "../base/deadline.js";
import type { ErrorCode } from "../errors/codes.js";
import { SmolVMError } from "../errors/smolvm-error.js";
import type { CommandResult } from "./command-result.js";
import type { CutShort } from "./cut-short.js";

/**
 * `COMMAND_FAILED` with `check`, `COMMAND_TIMEOUT` or `ABORTED`. `details` has the result's fields, too.
 *
 * @example
 * catch (error) { if (error instanceof CommandError) console.error(error.result.stderr); }
 */
export class CommandError extends SmolVMError {
  override readonly name = "CommandError";
  /** How the command ended, and what it had said until then. */
  readonly result: CommandResult;

  constructor(
    code: Extract<ErrorCode, "COMMAND_FAILED" | "COMMAND_TIMEOUT" | "ABORTED">,
    message: string,
    told: { readonly result: CommandResult; readonly timeoutMs?: number; readonly cause?: unknown },
  ) {
    const { result, timeoutMs, cause } = told;
    super(code, message, { details: { ...result, ...(timeoutMs === undefined ? {} : { timeoutMs }) }, cause });
    this.result = result;
  }
}

/** The error of a command that was cut short, and is gone. */
export function cutShortError(by: CutShort, result: CommandResult, deadline: Deadline): CommandError {
  if (by === "timeout") {
    const timeoutMs = deadline.limitMs;
    return new CommandError("COMMAND_TIMEOUT", `The command ran longer than ${timeoutMs} ms and was killed`, {
      result,
      timeoutMs,
    });
  }
  const cause = deadline.signal?.reason;
  return new CommandError("ABORTED", "The command was aborted by the caller and killed", { result, cause });
}

/** The error of a command that did not exit with 0. @param shown The command as people write it. */
export function commandFailed(shown: string, result: CommandResult): CommandError {
  const how = result.signal === null ? `exited with ${result.exitCode}` : `was killed by ${result.signal}`;
  const lastLine = result.stderr.trim().split("\n").pop() ?? "";
  const text = `Command "${shown}" ${how}${lastLine === "" ? "" : `: ${lastLine}`}`;
  return new CommandError("COMMAND_FAILED", text, { result });
}
