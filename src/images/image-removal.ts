// Which images and other things of the cache go, on `image rm` and on `image prune`.

import { SmolVMError } from "../errors/smolvm-error.js";
import { cacheLayout } from "./cache-layout.js";
import type { ImageCatalogue } from "./image-catalogue.js";
import { type IsInUse, type RemovedEntry, removeUnused, removeUnusedEntries } from "./remove-unused.js";
import { sweepStaging } from "./staging.js";

/** What a removal works on. */
export interface RemovalContext {
  readonly cacheDir: string;
  readonly catalogue: ImageCatalogue;
  readonly isInUse: IsInUse;
}

/** What a prune did. */
export interface PruneResult {
  readonly removed: readonly RemovedEntry[];
  /** Bytes on disk, including what dead builders had left. */
  readonly freedBytes: number;
}

/** Removes one image, and its name if it is what the name stands for. */
export async function removeImage(nameOrDigest: string, context: RemovalContext): Promise<RemovedEntry> {
  const { cacheDir, catalogue, isInUse } = context;
  const image = await catalogue.find(nameOrDigest);
  const removed = await removeUnused(cacheDir, image.directory, isInUse);
  if (removed === undefined) {
    throw new SmolVMError("BUSY", `Cannot remove image "${nameOrDigest}": a VM uses it`, {
      details: { image: nameOrDigest, digest: image.digest },
      hint: "Delete the VMs that use it first.",
    });
  }
  await catalogue.unpoint(image.name, image.digest);
  return removed;
}

/**
 * Removes what no VM uses: superseded images, with `all` current ones too; unpacked kernels and initramfs,
 * which are made again in a moment; and what dead builders left.
 */
export async function pruneCache(all: boolean, context: RemovalContext): Promise<PruneResult> {
  const { cacheDir, catalogue, isInUse } = context;
  const sweptBytes = await sweepStaging(cacheDir);
  const removed: RemovedEntry[] = [];
  for (const image of await catalogue.list()) {
    if (image.isCurrent && !all) continue;
    const entry = await removeUnused(cacheDir, image.directory, isInUse);
    if (entry === undefined) continue;
    removed.push(entry);
    await catalogue.unpoint(image.name, image.digest);
  }
  const { initramfsDir, kernelsDir } = cacheLayout(cacheDir);
  for (const directory of [initramfsDir, kernelsDir]) {
    removed.push(...(await removeUnusedEntries(cacheDir, directory, isInUse)));
  }
  return { removed, freedBytes: removed.reduce((sum, { freedBytes }) => sum + freedBytes, sweptBytes) };
}
