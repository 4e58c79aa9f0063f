// Failures of the host's file system during a transfer.

import type { ErrnoCode } from "../../errors/errno-codes.js";
import { fileError } from "../../errors/file-error.js";
import { SmolVMError } from "../../errors/smolvm-error.js";
import type { HostPath } from "./host-path.js";
import { readable } from "./tree-failure.js";

/** Does something with a file of the host. @throws {STORAGE_FAILED} with the path, when the host refuses. */
export async function hostFile<T>(action: string, path: HostPath, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw error instanceof SmolVMError ? error : fileError(action, readable(path), error);
  }
}

/** What lies at a place of the host, or does not, rules the transfer out; not an error of the guest. */
export function hostConflict(code: ErrnoCode, message: string, path: HostPath): SmolVMError {
  return new SmolVMError(code, message, { details: { path: readable(path), side: "host" } });
}

/** Whether an error of Node.js has this code. */
export function hasCode(error: unknown, code: string): boolean {
  return (error as NodeJS.ErrnoException | undefined)?.code === code;
}
