// Copies of disks and memory files that share what they can with their original: a clone where the file system has such,
// else a copy that leaves holes.

import { constants, copyFile, open, rm, stat } from "node:fs/promises";
import type { Deadline } from "../../base/deadline.js";
import { fileError } from "../../errors/file-error.js";
import { isSmolVMError } from "../../errors/smolvm-error.js";
import { runProgram } from "../../host/process.js";

/** Copying alone where cloning is not possible: another file system, or one without it (ioctl_ficlone(2)). */
const CANNOT_CLONE = new Set(["ENOTSUP", "EOPNOTSUPP", "EXDEV", "EINVAL", "ENOSYS", "ENOTTY", "EPERM", "ETXTBSY"]);

/** A file to make. */
export interface FileCopy {
  readonly from: string;
  /** Nothing may be there yet. */
  readonly to: string;
  /** Grown to this; never made smaller. */
  readonly sizeBytes?: number | undefined;
}

/**
 * Makes a private copy, mode 0600. Nothing is left when it fails.
 *
 * @throws {STORAGE_FAILED} also when something is there already. @throws {TIMEOUT} {ABORTED}
 */
export async function copyDisk(copy: FileCopy, deadline: Deadline): Promise<void> {
  const { from, to } = copy;
  await makeFile(to);
  try {
    if (!(await cloneFile(from, to))) await copySparsely(from, to, deadline);
    await growTo(to, copy.sizeBytes);
  } catch (error) {
    await rm(to, { force: true });
    if (isSmolVMError(error) && error.code !== "HOST_COMMAND_FAILED") throw error;
    throw fileError(`Copying "${from}"`, to, error);
  }
}

/**
 * Makes an empty file that only this user can read.
 *
 * @throws {STORAGE_FAILED} also when there is one already.
 */
export async function makeFile(path: string): Promise<void> {
  try {
    await (await open(path, "wx", 0o600)).close();
  } catch (error) {
    throw fileError("Creating a file of a machine", path, error);
  }
}

/** @returns False where that is not possible; the file is empty then, as it was. */
async function cloneFile(from: string, to: string): Promise<boolean> {
  try {
    await copyFile(from, to, constants.COPYFILE_FICLONE_FORCE);
  } catch (error) {
    if (!CANNOT_CLONE.has((error as NodeJS.ErrnoException).code ?? "")) throw error;
    await rm(to, { force: true }); // libuv may have removed it by itself.
    await makeFile(to);
    return false;
  }
  await withFile(to, "r", (file) => file.chmod(0o600)); // It has its original's mode.
  return true;
}

/** GNU cp finds the holes of a file without reading them, which Node.js cannot; it does not look for more. */
async function copySparsely(from: string, to: string, deadline: Deadline): Promise<void> {
  const argv = ["cp", "--reflink=never", "--sparse=auto", "--", from, to];
  await runProgram(argv, { timeoutMs: deadline.remainingMs, signal: deadline.signal });
}

async function growTo(path: string, sizeBytes: number | undefined): Promise<void> {
  if (sizeBytes === undefined || (await stat(path)).size >= sizeBytes) return;
  await withFile(path, "r+", (file) => file.truncate(sizeBytes));
}

async function withFile<T>(
  path: string,
  flags: string,
  use: (file: Awaited<ReturnType<typeof open>>) => Promise<T>,
): Promise<T> {
  const file = await open(path, flags);
  try {
    return await use(file);
  } finally {
    await file.close();
  }
}
