// The error of a command that ran: its result is what a caller wants of it.

import type { ErrorCode } from "../errors/codes.js";
import { SmolVMError } from "../errors/smolvm-error.js";
import type { CommandResult } from "./run-command.js";

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
