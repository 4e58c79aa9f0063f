// The moment a finished directory becomes visible: one rename, made durable.

import { mkdir, rename } from "node:fs/promises";
import { dirname } from "node:path";
import { syncToDisk } from "./durable-files.js";

/** What rename(2) says when the target is a directory with something in it. */
const TAKEN: ReadonlySet<string | undefined> = new Set(["ENOTEMPTY", "EEXIST"]);

/** Where a published directory goes, and where one that is in the way goes. */
export interface PublishOptions {
  readonly target: string;
  /** Moves a directory already at `target` to this path first; without it, that one stays. */
  readonly moveOldTo?: string;
}

/**
 * Moves `staged` to `target`; both are in one file system.
 *
 * @returns False when somebody else published there first; `staged` is then still there.
 */
export async function publishDirectory(staged: string, { target, moveOldTo }: PublishOptions): Promise<boolean> {
  await mkdir(dirname(target), { recursive: true, mode: 0o755 });
  if (moveOldTo !== undefined) await moveAside(target, moveOldTo);
  try {
    await rename(staged, target);
  } catch (error) {
    if (TAKEN.has((error as NodeJS.ErrnoException).code)) return false;
    throw error;
  }
  await syncToDisk(dirname(target));
  return true;
}

/** @returns False when there was nothing to move. */
export async function moveAside(directory: string, to: string): Promise<boolean> {
  try {
    await rename(directory, to);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return false;
    throw error;
  }
}
