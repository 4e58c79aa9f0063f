// Verifies the cache's part in what an existing VM boots from, when it is started again.

import { dirname, sep } from "node:path";
import { SmolVMError } from "../errors/smolvm-error.js";
import type { CacheContext } from "./cache-context.js";
import { readManifest } from "./manifest.js";
import { verifyArtefacts } from "./verification.js";

/**
 * @param paths Files that a VM boots from. Those outside the cache are the user's own and are not looked at.
 * @throws {IMAGE_FAILED} naming the file that is gone or not what was recorded.
 */
export async function verifyFiles(paths: readonly string[], cache: CacheContext): Promise<void> {
  const cached = paths.filter((path) => path.startsWith(cache.cacheDir + sep));
  for (const directory of new Set(cached.map((path) => dirname(path)))) {
    const manifest = await readManifest(directory);
    if (manifest === undefined) {
      throw new SmolVMError("IMAGE_FAILED", `Cannot boot from "${directory}": it was removed from the cache`, {
        details: { path: directory },
        hint: "Create the VM anew: its image is built again then.",
      });
    }
    await verifyArtefacts(directory, manifest, cache);
  }
}
