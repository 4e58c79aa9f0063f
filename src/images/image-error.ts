// Everything that is neither the caller's doing nor the host's lack becomes IMAGE_FAILED.

import { isSmolVMError, SmolVMError } from "../errors/smolvm-error.js";

/** Errors of these codes say enough as they are. */
const CLEAR_CODES: ReadonlySet<string> = new Set([
  "ABORTED",
  "TIMEOUT",
  "HOST_UNSUPPORTED",
  "IMAGE_FAILED",
  "INTERNAL",
]);

/**
 * @param action What could not be done, e.g. `build image "debian"`.
 */
export function asImageError(error: unknown, action: string): SmolVMError {
  if (isSmolVMError(error) && CLEAR_CODES.has(error.code)) return error;
  const details = isSmolVMError(error) ? error.details : {};
  const reason = error instanceof Error ? error.message : String(error);
  const errorLine = firstErrorLine(String(details["stderr"] ?? ""));
  return new SmolVMError("IMAGE_FAILED", `Cannot ${action}: ${errorLine ?? reason}`, {
    details,
    cause: error,
    hint: hintFor(`${reason} ${details["stderr"] ?? ""}`),
  });
}

function hintFor(text: string): string | undefined {
  if (/ENOSPC|No space left|Could not allocate block/.test(text)) {
    return "Free some space where the cache is (SMOLVM_CACHE_DIR): a build needs about 1.5 GB.";
  }
  if (/Failed to fetch|Could not (connect|resolve)/.test(text)) {
    return "Check that the Debian mirror can be reached; SMOLVM_DEBIAN_MIRROR names another one.";
  }
  return undefined;
}

/** The first error line of apt or mmdebstrap says more than the last one. */
function firstErrorLine(stderr: string): string | undefined {
  return stderr.split("\n").find((line) => line.startsWith("E: "));
}
