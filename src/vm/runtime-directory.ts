// The directory of one boot's sockets: a short random name, gone when the VM stops.

import { randomBytes } from "node:crypto";
import { chmod, lstat, mkdir, rm, rmdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileError } from "../errors/file-error.js";
import { SmolVMError } from "../errors/smolvm-error.js";
import type { VmContext } from "./context.js";

/** Chooses the name; nothing is made yet. */
export function planRuntimeDirectory(ctx: VmContext): string {
  return join(ctx.paths.runtimeDir, randomBytes(6).toString("hex"));
}

/** Tries at making a directory whose parent another process may remove because it is empty. */
const MAKE_ATTEMPTS = 5;

/** @throws {STORAGE_FAILED} also when the place belongs to somebody else. */
export async function makeRuntimeDirectory(ctx: VmContext, runtimeDir: string): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await tryToMake(ctx.paths.runtimeDir, runtimeDir);
      return;
    } catch (error) {
      if (error instanceof SmolVMError) throw error;
      const isParentGone = (error as NodeJS.ErrnoException).code === "ENOENT";
      if (!isParentGone || attempt === MAKE_ATTEMPTS) {
        throw fileError("Create the socket directory of a VM", runtimeDir, error);
      }
    }
  }
}

/** Removes the directory, and the one around it if it was the last. @throws {STORAGE_FAILED} */
export async function removeRuntimeDirectory(runtimeDir: string): Promise<void> {
  await rm(runtimeDir, { recursive: true, force: true }).catch((error: unknown) => {
    throw fileError("Remove the socket directory of a VM", runtimeDir, error);
  });
  await rmdir(dirname(runtimeDir)).catch(() => {}); // Others are in use.
}

async function tryToMake(root: string, runtimeDir: string): Promise<void> {
  for (const directory of [dirname(root), root]) {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    await requireOwn(directory);
  }
  await mkdir(runtimeDir, { mode: 0o700 });
  await chmod(runtimeDir, 0o700); // Whatever the umask is.
}

/** Below /tmp anybody can make a directory of our name first, and would own our sockets. */
async function requireOwn(directory: string): Promise<void> {
  const info = await lstat(directory);
  const isOurs = info.isDirectory() && info.uid === process.getuid?.() && (info.mode & 0o022) === 0;
  if (isOurs) return;
  throw new SmolVMError(
    "STORAGE_FAILED",
    `Cannot use "${directory}" for sockets: it is not a directory of ours alone`,
    {
      details: { path: directory, uid: info.uid, mode: info.mode & 0o7777 },
      hint: "Remove it, or set XDG_RUNTIME_DIR to a directory of your own.",
    },
  );
}
