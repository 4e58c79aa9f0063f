// Error numbers of Linux as codes of our table, under the names that Node.js gives them: what `vm.fs` fails with.

import type { ErrorCodeInfo } from "./error-code-info.js";

/** An error number's row of the table. */
export interface ErrnoCodeInfo extends ErrorCodeInfo {
  /** Linux's number for it (asm-generic/errno.h), positive. The host's own may differ. */
  readonly number: number;
  /** What it says, for messages. */
  readonly words: string;
}

/** `EX_NOINPUT`, `EX_CANTCREAT`, `EX_NOPERM`, `EX_IOERR` and `EX_TEMPFAIL` of sysexits.h. */
const NO_INPUT = 66;
const CANNOT_CREATE = 73;
const NO_PERMISSION = 77;
const IO_ERROR = 74;
const TRY_LATER = 75;

/** One row. @param words How the error reads in a message, a clause without a full stop. */
function row(number: number, exitStatus: number, words: string, hint: string): ErrnoCodeInfo {
  const retryable = exitStatus === TRY_LATER;
  return { number, words, exitStatus, retryable, meaning: `A file operation failed: ${words}.`, hint };
}

const CHECK_PATH = "Check the path in the details.";
const CHECK_KIND = "Check what lies at the path with `vm.fs.lstat`.";
const FREE_SPACE = "Free space in the guest, or give the VM a larger diskSizeMib.";
const LATER = "Try again when nothing else uses it.";
const GUEST_LOG = "Read the guest's log with `smolvm logs`.";

export const ERRNO_CODES = {
  ENOENT: row(2, NO_INPUT, "no such file or directory", CHECK_PATH),
  EEXIST: row(17, CANNOT_CREATE, "the file exists already", "Choose another path, or remove what is there."),
  EACCES: row(13, NO_PERMISSION, "permission denied", "Check modes and owners along the path."),
  EPERM: row(1, NO_PERMISSION, "operation not permitted", "The file may be immutable or belong to the kernel."),
  ENOTDIR: row(20, IO_ERROR, "not a directory", CHECK_KIND),
  EISDIR: row(
    21,
    IO_ERROR,
    "it is a directory",
    "Name a file, end the path with / to copy into the directory, or pass `recursive` to `rm`.",
  ),
  ENOTEMPTY: row(39, IO_ERROR, "the directory is not empty", "Pass `recursive` to remove what is in it too."),
  ELOOP: row(40, IO_ERROR, "too many symbolic links", CHECK_PATH),
  ENAMETOOLONG: row(36, IO_ERROR, "a name or path is too long", "Names have at most 255 bytes, paths 4095."),
  ENOSPC: row(28, IO_ERROR, "no space left on the device", FREE_SPACE),
  EDQUOT: row(122, IO_ERROR, "the disk quota is used up", FREE_SPACE),
  EROFS: row(30, IO_ERROR, "the file system is read-only", "Write elsewhere, or mount it writable."),
  EXDEV: row(18, IO_ERROR, "the paths are on different file systems", "Copy it and remove the original."),
  EINVAL: row(22, IO_ERROR, "invalid argument", "Check the arguments against what lies at the path."),
  EBUSY: row(16, TRY_LATER, "it is in use", LATER),
  ETXTBSY: row(26, TRY_LATER, "the program is running", LATER),
  EAGAIN: row(11, TRY_LATER, "the guest is busy", "Try again with fewer operations at a time."),
  EMFILE: row(24, TRY_LATER, "too many open files in a process", "Try again with fewer operations at a time."),
  ENFILE: row(23, TRY_LATER, "too many open files in the system", "Try again with fewer operations at a time."),
  ENOMEM: row(12, TRY_LATER, "out of memory", "Give the VM more memory, or run less in it."),
  EFBIG: row(27, IO_ERROR, "the file is too large", "Use `vm.fs.createReadStream`, or raise maxBytes."),
  EIO: row(5, IO_ERROR, "input or output error", GUEST_LOG),
  ENXIO: row(6, IO_ERROR, "no such device or address", CHECK_KIND),
  ENODEV: row(19, IO_ERROR, "no such device", CHECK_KIND),
  EMLINK: row(31, IO_ERROR, "too many links", "Spread the entries over more directories."),
  ESPIPE: row(29, IO_ERROR, "it has no positions to seek to", "Leave out `start`."),
  EOVERFLOW: row(75, IO_ERROR, "a value is too large for its type", CHECK_KIND),
  EOPNOTSUPP: row(95, IO_ERROR, "the file system cannot do that", "Use a path on another file system."),
} as const satisfies Record<string, ErrnoCodeInfo>;

/** Name of an error number that is a code of our table. */
export type ErrnoCode = keyof typeof ERRNO_CODES;

/**
 * The code for an error number's name that somebody else chose.
 *
 * @returns `"EIO"` for a name that the table does not have.
 */
export function errnoCode(name: string): ErrnoCode {
  return Object.hasOwn(ERRNO_CODES, name) ? (name as ErrnoCode) : "EIO";
}
