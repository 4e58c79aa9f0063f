// The images of this host, as functions.

import type { WaitOptions } from "../base/deadline.js";
import type { ProgressListener } from "../base/progress.js";
import type { BootImage, ImageInfo, PruneResult, RemovedEntry, TemplateInfo } from "../vm/image-types.js";
import { sharedManager } from "../vm/shared-manager.js";

/** Options of what may build an image. */
export interface BuildImageOptions extends WaitOptions {
  readonly onProgress?: ProgressListener | undefined;
  /** Build even if it is there. Default false. */
  readonly force?: boolean | undefined;
}

/**
 * Makes an image ready to boot, building it unless it is in the cache.
 *
 * @throws {INVALID_CONFIG} {IMAGE_NOT_FOUND} {IMAGE_FAILED} {HOST_UNSUPPORTED} {ABORTED} {TIMEOUT}
 */
export async function prepareImage(name = "debian", options?: BuildImageOptions): Promise<BootImage> {
  return sharedManager().images.resolve(name, options);
}

/** Builds an image. @throws as {@link prepareImage} */
export async function buildImage(name = "debian", options?: BuildImageOptions): Promise<ImageInfo> {
  return sharedManager().images.build(name, options);
}

/** Every image in the cache, the newest first. */
export async function listImages(): Promise<readonly ImageInfo[]> {
  return sharedManager().images.list();
}

/** Every template in the cache, the newest first: machines frozen after their boot, from which VMs start. */
export async function listTemplates(): Promise<readonly TemplateInfo[]> {
  return sharedManager().images.templates.list();
}

/** @param nameOrDigest A name, a digest or its beginning. @throws {IMAGE_NOT_FOUND} */
export async function inspectImage(nameOrDigest: string): Promise<ImageInfo> {
  return sharedManager().images.inspect(nameOrDigest);
}

/**
 * Removes an image with its templates, or one template.
 *
 * @param nameOrDigest An image's name, or the beginning of an image's digest or of a template's key.
 * @throws {IMAGE_NOT_FOUND} @throws {BUSY} when a VM uses it, or a template of it.
 */
export async function removeImage(nameOrDigest: string, options?: WaitOptions): Promise<RemovedEntry> {
  return sharedManager().removeImage(nameOrDigest, options);
}

/** Removes what no VM uses. @param options `all`: also images that a name stands for. */
export async function pruneImages(
  options?: WaitOptions & { readonly all?: boolean | undefined },
): Promise<PruneResult> {
  return sharedManager().pruneImages(options);
}
