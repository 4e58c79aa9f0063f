// A file operation that failed in the guest, with the fields of Node.js's own file errors.

import { ERRNO_CODES, type ErrnoCode } from "./errno-codes.js";
import { SmolVMError } from "./smolvm-error.js";

/** What failed. */
export interface FailedFileOperation {
  /** What was called, in the words of Node.js, e.g. `"open"`. */
  readonly syscall: string;
  readonly path: string;
  /** Second path of a call that has two. */
  readonly dest?: string | undefined;
  /** Added to the message where there is more to say. */
  readonly more?: string | undefined;
}

/**
 * @example
 * try { await vm.fs.readFile("/etc/app.conf", "utf8"); }
 * catch (error) { if (error instanceof GuestFileError && error.code === "ENOENT") ... }
 */
export class GuestFileError extends SmolVMError {
  override readonly name = "GuestFileError";
  declare readonly code: ErrnoCode;
  /** Linux's error number, negative as in Node.js, whatever system the host is. */
  readonly errno: number;
  readonly syscall: string;
  readonly path: string;
  // Not there at all where there is no second path: a plain field would be, with undefined.
  declare readonly dest?: string;

  constructor(code: ErrnoCode, { syscall, path, dest, more }: FailedFileOperation, cause?: unknown) {
    const { words, number } = ERRNO_CODES[code];
    const paths = dest === undefined ? JSON.stringify(path) : `${JSON.stringify(path)} -> ${JSON.stringify(dest)}`;
    const errno = -number;
    super(code, `Cannot ${syscall} ${paths} in the guest: ${words} (${code})${more === undefined ? "" : `; ${more}`}`, {
      details: { errno, syscall, path, ...(dest === undefined ? {} : { dest }) },
      cause,
    });
    this.errno = errno;
    this.syscall = syscall;
    this.path = path;
    if (dest !== undefined) this.dest = dest;
  }
}
