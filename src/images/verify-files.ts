// Verifies what an existing VM boots from, when it is started again.

import { basename, dirname, extname, join, sep } from "node:path";
import { isSmolVMError, SmolVMError } from "../errors/smolvm-error.js";
import type { CacheContext } from "./cache-context.js";
import { cacheLayout } from "./cache-layout.js";
import { inspectCustomFiles } from "./custom-files.js";
import { type Manifest, readManifest } from "./manifest.js";
import { verifyArtefacts } from "./verification.js";

/**
 * @param paths Files that a VM boots from. Of those outside the cache, the user's own, only a qcow2 disk is looked at:
 *   its header may have come to name other files of the host since it was accepted.
 * @throws {IMAGE_FAILED} naming the file that is gone or not what was recorded.
 */
export async function verifyFiles(paths: readonly string[], cache: CacheContext): Promise<void> {
  const isCached = (path: string) => path.startsWith(cache.cacheDir + sep);
  for (const path of paths.filter((path) => !isCached(path) && extname(path) === ".qcow2")) await verifyQcow2(path);
  const cached = paths.filter(isCached);
  for (const directory of new Set(cached.map((path) => dirname(path)))) {
    const manifest = await readManifest(directory);
    if (manifest === undefined) {
      throw new SmolVMError("IMAGE_FAILED", `Cannot boot from "${directory}": it was removed from the cache`, {
        details: { path: directory },
        hint: "Create the VM anew: its image is built again then.",
      });
    }
    await verifyArtefacts(directory, partToVerify(manifest, directory, { cached, cache }), cache);
  }
}

interface Wanted {
  readonly cached: readonly string[];
  readonly cache: CacheContext;
}

/**
 * All of an image. Of a template only what was asked for: a VM that boots has no use for its memory, only for the disk
 * that its own is a layer over.
 */
function partToVerify(manifest: Manifest, directory: string, { cached, cache }: Wanted): Manifest {
  if (dirname(directory) !== cacheLayout(cache.cacheDir).templatesDir) return manifest;
  const names = cached.filter((path) => dirname(path) === directory).map((path) => basename(path));
  const missing = names.find((name) => !manifest.artefacts.some((artefact) => artefact.name === name));
  if (missing === undefined) {
    return { ...manifest, artefacts: manifest.artefacts.filter(({ name }) => names.includes(name)) };
  }
  const path = join(directory, missing);
  throw new SmolVMError("IMAGE_FAILED", `Cannot boot from "${path}": its manifest does not name it`, {
    details: { path },
  });
}

async function verifyQcow2(path: string): Promise<void> {
  try {
    await inspectCustomFiles({ rootfsPath: path });
  } catch (error) {
    if (!isSmolVMError(error, "INVALID_CONFIG")) throw error;
    const { expected } = error.details;
    throw new SmolVMError("IMAGE_FAILED", `Cannot boot from "${path}": expected ${expected}`, {
      details: { path, expected },
      cause: error,
      hint: "Put back the disk that the VM was created with, or create the VM anew.",
    });
  }
}
