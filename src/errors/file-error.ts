// Failures of the file system, as ours.

import { SmolVMError } from "./smolvm-error.js";

/**
 * The `STORAGE_FAILED` error for a file operation.
 *
 * @param action What was being done, e.g. `Create the disk of VM "a1"`.
 */
export function fileError(action: string, path: string, cause: unknown): SmolVMError {
  const reason = (cause as NodeJS.ErrnoException).code;
  return new SmolVMError(
    "STORAGE_FAILED",
    `${action} failed at "${path}": ${cause instanceof Error ? cause.message : cause}`,
    {
      details: { path, reason },
      cause,
      hint: reason === "ENOSPC" ? "Free disk space; `smolvm image prune` may help." : undefined,
    },
  );
}
