// How much disk a directory takes, which for sparse files is far less than their size.

import { lstat, readdir } from "node:fs/promises";
import { join } from "node:path";

/** Unit of `st_blocks`, stat(2), in bytes. */
const BLOCK_BYTES = 512;

/** Bytes allocated to a file or to all files below a directory; what vanishes meanwhile counts nothing. */
export async function allocatedBytes(path: string): Promise<number> {
  const info = await lstat(path).catch(() => undefined);
  if (info === undefined) return 0;
  let totalBytes = info.blocks * BLOCK_BYTES;
  if (!info.isDirectory()) return totalBytes;
  for (const name of await readdir(path).catch(() => [])) totalBytes += await allocatedBytes(join(path, name));
  return totalBytes;
}
