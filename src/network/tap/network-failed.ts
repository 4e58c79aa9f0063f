// The one shape of "the host's network did not do it".

import { type ErrorDetails, SmolVMError } from "../../errors/smolvm-error.js";

/** @param action What was tried, e.g. `Cannot make the TAP device "svm3"`. */
export function networkFailed(action: string, cause: unknown, details: ErrorDetails = {}): SmolVMError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new SmolVMError("NETWORK_FAILED", `${action}: ${reason}`, { details, cause });
}
