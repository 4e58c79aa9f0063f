// The two ways a wait ends early, as errors.

import type { Deadline } from "../base/deadline.js";
import { SmolVMError } from "./smolvm-error.js";

/** The error for an operation that its caller's signal ended. */
export function abortedError(action: string, signal: AbortSignal | undefined): SmolVMError {
  return new SmolVMError("ABORTED", `${action} was aborted by the caller`, { cause: signal?.reason });
}

/**
 * The error for a wait that did not get what it waited for.
 *
 * @param action What was being done, e.g. `Stop of VM "a1"`.
 * @returns `ABORTED` when the deadline's signal fired, else `TIMEOUT`.
 */
export function waitError(action: string, deadline: Deadline): SmolVMError {
  if (deadline.isAborted) return abortedError(action, deadline.signal);
  return new SmolVMError("TIMEOUT", `${action} did not finish within ${Math.round(deadline.limitMs)} ms`, {
    details: { timeoutMs: deadline.limitMs },
  });
}

/**
 * Throws when the signal has fired already.
 *
 * @throws {ABORTED}
 */
export function throwIfAborted(action: string, signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw abortedError(action, signal);
}
