// Whether files can have come from nobody but this user, or root: only such files are executed.

import { stat } from "node:fs/promises";

const WRITABLE_BY_OTHERS = 0o022;

/** @returns What is wrong with the first path that is, for a person; a path that is not there is not. */
export async function findForeign(paths: readonly string[]): Promise<string | undefined> {
  for (const path of paths) {
    const info = await stat(path).catch(() => undefined);
    if (info === undefined) continue;
    if (info.uid !== process.getuid?.() && info.uid !== 0) return `"${path}" belongs to user ${info.uid}`;
    if ((info.mode & WRITABLE_BY_OTHERS) !== 0) return `others can write to "${path}"`;
  }
  return undefined;
}
