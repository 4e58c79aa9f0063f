// The root of every error that SmolVM throws on purpose. Match on `code`, never on the text.

import { ERROR_CODES, type ErrorCode } from "./codes.js";

/** Facts about one failure, by name; plain data that survives JSON. */
export type ErrorDetails = Readonly<Record<string, unknown>>;

/** What may be said about a failure beside its code and message. */
export interface ErrorExtras {
  readonly details?: ErrorDetails | undefined;
  readonly cause?: unknown;
  /** Replaces the table's hint where something more precise is known. */
  readonly hint?: string | undefined;
}

/**
 * @example
 * try { await vm.exec(["false"], { check: true }); }
 * catch (error) { if (error instanceof SmolVMError && error.code === "COMMAND_FAILED") ... }
 */
export class SmolVMError extends Error {
  override readonly name: string = "SmolVMError";
  readonly code: ErrorCode;
  readonly details: ErrorDetails;
  /** What the caller can do about it. */
  readonly hint: string;
  /** Whether the same call may succeed later without any change. */
  readonly retryable: boolean;

  constructor(code: ErrorCode, message: string, extras: ErrorExtras = {}) {
    super(message, extras.cause === undefined ? undefined : { cause: extras.cause });
    this.code = code;
    this.details = extras.details ?? {};
    this.hint = extras.hint ?? ERROR_CODES[code].hint;
    this.retryable = ERROR_CODES[code].retryable;
  }

  /** Exit status that the command line uses for this error. */
  get exitStatus(): number {
    return ERROR_CODES[this.code].exitStatus;
  }
}

/** True for a {@link SmolVMError}, of the given code where one is given. */
export function isSmolVMError(error: unknown, code?: ErrorCode): error is SmolVMError {
  return error instanceof SmolVMError && (code === undefined || error.code === code);
}
