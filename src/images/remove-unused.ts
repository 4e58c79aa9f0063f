// Removes what nobody uses from the cache. Anything here can be made again.

import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { allocatedBytes } from "./allocated-bytes.js";
import { moveAside, publishDirectory } from "./publish.js";
import { withStaging } from "./staging.js";

/**
 * Says whether a VM uses files below `directory`.
 *
 * A VM that is being created records its files first and resolves them once more after that: what is removed
 * in between is then either put back here or made again there.
 */
export type IsInUse = (directory: string) => boolean | Promise<boolean>;

/** One thing that was removed. */
export interface RemovedEntry {
  readonly path: string;
  /** Bytes on disk, those of `templates` included. */
  readonly freedBytes: number;
  /** Of an image: its templates, which went with it. */
  readonly templates?: readonly RemovedEntry[];
}

/**
 * Removes a directory of the cache in one step, unless it is in use.
 *
 * @returns `undefined` when it is in use or not there.
 */
export async function removeUnused(
  cacheDir: string,
  directory: string,
  isInUse: IsInUse,
): Promise<RemovedEntry | undefined> {
  if (await isInUse(directory)) return undefined;
  return withStaging(cacheDir, async (staging) => {
    const aside = join(staging, "removed");
    if (!(await moveAside(directory, aside))) return undefined;
    if (await isInUse(directory)) {
      await publishDirectory(aside, { target: directory });
      return undefined;
    }
    return { path: directory, freedBytes: await allocatedBytes(aside) };
  });
}

/** {@link removeUnused} for every entry of a directory. */
export async function removeUnusedEntries(
  cacheDir: string,
  directory: string,
  isInUse: IsInUse,
): Promise<readonly RemovedEntry[]> {
  const removed: RemovedEntry[] = [];
  for (const name of await readdir(directory).catch(() => [])) {
    const entry = await removeUnused(cacheDir, join(directory, name), isInUse);
    if (entry !== undefined) removed.push(entry);
  }
  return removed;
}
