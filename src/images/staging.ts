// Where unfinished things live: CACHE/staging/<pid>-<tag>-<random>. The name says whose it is from the
// moment it exists, so what a killed builder left behind can be told from what is being worked on.

import { mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { isOwnerAlive, ownedName } from "../host/owned-name.js";
import { allocatedBytes } from "./allocated-bytes.js";
import { cacheLayout } from "./cache-layout.js";

/** Runs `body` with a new private directory that is gone afterwards, however `body` ends. */
export async function withStaging<T>(cacheDir: string, body: (directory: string) => Promise<T>): Promise<T> {
  const { stagingDir } = cacheLayout(cacheDir);
  const directory = join(stagingDir, await ownedName());
  // Whatever the umask is: a cache that others may write to is refused.
  await mkdir(stagingDir, { recursive: true, mode: 0o755 });
  await mkdir(directory, { mode: 0o700 });
  try {
    return await body(directory);
  } finally {
    await removeTree(directory).catch(() => {}); // Never hides how `body` ended; a later sweep tries again.
  }
}

/**
 * Removes the staging directories of processes that are no more.
 *
 * @returns Bytes freed on disk.
 */
export async function sweepStaging(cacheDir: string): Promise<number> {
  const { stagingDir } = cacheLayout(cacheDir);
  let freedBytes = 0;
  for (const name of await readdir(stagingDir).catch(() => [])) {
    if (await isOwnerAlive(name)) continue;
    const directory = join(stagingDir, name);
    freedBytes += await allocatedBytes(directory);
    await removeTree(directory);
  }
  return freedBytes;
}

/** Another process may be removing the same tree: retries cover what appears or goes meanwhile. */
function removeTree(directory: string): Promise<void> {
  return rm(directory, { recursive: true, force: true, maxRetries: 3, retryDelay: 50 });
}
