// What can go wrong while Firecracker is installed, as errors.

import { fileError } from "../../errors/file-error.js";
import { isSmolVMError, SmolVMError } from "../../errors/smolvm-error.js";

/** What may be said about a failed installation beside its message. */
export interface InstallErrorExtras {
  readonly details?: Readonly<Record<string, unknown>>;
  readonly hint?: string;
  readonly cause?: unknown;
}

/** The error for an archive that could not be had, or is not what it should be. Nothing was installed. */
export function installError(message: string, { details, hint, cause }: InstallErrorExtras = {}): SmolVMError {
  return new SmolVMError("TRANSFER_FAILED", message, { details, cause, hint: hint ?? BY_HAND });
}

/** The way that always works. */
const BY_HAND =
  "Try again, name a mirror with SMOLVM_FIRECRACKER_MIRROR, or put `firecracker` and `jailer` of the release on PATH.";

/** The error for an archive that ended early, all of which is good so far. */
export function interruptedError(message: string, details: Readonly<Record<string, unknown>>): SmolVMError {
  return installError(message, {
    details: { ...details, canResume: true },
    hint: "Try again: the download goes on where it ended.",
  });
}

/** Whether what was downloaded before an error is worth keeping. */
export function canResumeAfter(error: unknown): boolean {
  if (!isSmolVMError(error)) return false;
  return error.code === "ABORTED" || error.code === "TIMEOUT" || error.details["canResume"] === true;
}

/** Whatever is not ours yet is the file system's. */
export function asInstallError(error: unknown, path: string): SmolVMError {
  return isSmolVMError(error) ? error : fileError("Installation of Firecracker", path, error);
}
