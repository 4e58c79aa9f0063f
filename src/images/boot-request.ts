// Checks what a VM is to boot from, completely, before anything is built or written.

import { invalidConfig } from "../errors/invalid-config.js";
import { type CustomFiles, type CustomFilesRequest, inspectCustomFiles } from "./custom-files.js";
import { recipeFor } from "./image-name.js";
import type { ImageRecipe } from "./recipes.js";

const MIB_BYTES = 1024 * 1024;

/** What the user asked to boot from. */
export interface BootRequest extends CustomFilesRequest {
  /** Named image; gives whatever no path is given for. */
  readonly image: string;
  /** Size of the VM's own disk in MiB; the size of the root file system when undefined. */
  readonly diskSizeMib?: number | undefined;
}

/** The request, understood. */
export interface CheckedBootRequest {
  readonly custom: CustomFiles;
  /** `undefined` when the user's own files are all that is needed. */
  readonly recipe: ImageRecipe | undefined;
}

/**
 * @throws {INVALID_CONFIG} naming `image`, `kernelPath`, `initrdPath`, `rootfsPath` or `diskSizeMib`.
 * @throws {IMAGE_NOT_FOUND} when an image of this name is needed and unknown.
 */
export async function checkBootRequest(request: BootRequest): Promise<CheckedBootRequest> {
  const recipe = recipeFor(request.image);
  const custom = await inspectCustomFiles(request);
  const rootfsBytes = custom.rootfs?.sizeBytes ?? recipe.rootfsSizeMib * MIB_BYTES;
  const { diskSizeMib } = request;
  if (diskSizeMib !== undefined && diskSizeMib * MIB_BYTES < rootfsBytes) {
    const neededMib = Math.ceil(rootfsBytes / MIB_BYTES);
    const expected = `at least ${neededMib}, the size of the root file system in MiB`;
    throw invalidConfig({ field: "diskSizeMib", value: diskSizeMib, expected });
  }
  const isComplete = custom.kernel !== undefined && custom.rootfs !== undefined;
  return { custom, recipe: isComplete ? undefined : recipe };
}
