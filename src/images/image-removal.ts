// Which images and other things of the cache go, on `image rm` and on `image prune`.

import { isSmolVMError, SmolVMError } from "../errors/smolvm-error.js";
import { cacheLayout } from "./cache-layout.js";
import { DIGEST_PREFIX_CHARS, type ImageCatalogue, type ImageInfo } from "./image-catalogue.js";
import { type IsInUse, type RemovedEntry, removeUnused, removeUnusedEntries } from "./remove-unused.js";
import { sweepStaging } from "./staging.js";
import type { TemplateCatalogue } from "./template-catalogue.js";

const BUSY_HINT = "Delete the VMs that use it first.";

/** What a removal works on. */
export interface RemovalContext {
  readonly cacheDir: string;
  readonly catalogue: ImageCatalogue;
  readonly templates: TemplateCatalogue;
  readonly isInUse: IsInUse;
}

/** What a prune did. */
export interface PruneResult {
  readonly removed: readonly RemovedEntry[];
  /** Bytes on disk, including what dead builders had left. */
  readonly freedBytes: number;
}

/**
 * Removes one image, its templates, and its name if it is what the name stands for; or one template.
 *
 * @param text An image's name, or the beginning of an image's digest or of a template's key.
 */
export async function removeImage(text: string, context: RemovalContext): Promise<RemovedEntry> {
  const { image, templateKey } = await choose(text, context);
  return image === undefined ? removeTemplate(templateKey, context) : removeWholeImage(image, context);
}

type Choice =
  | { readonly image: ImageInfo; readonly templateKey?: undefined }
  | { readonly image?: undefined; readonly templateKey: string };

/** @throws {INVALID_CONFIG} when the text fits several. @throws {IMAGE_NOT_FOUND} */
async function choose(text: string, { catalogue, templates }: RemovalContext): Promise<Choice> {
  let image: ImageInfo | undefined;
  let notFound: unknown;
  try {
    image = await catalogue.find(text);
  } catch (error) {
    if (!isSmolVMError(error, "IMAGE_NOT_FOUND")) throw error;
    notFound = error;
  }
  if (image?.isCurrent === true && image.name === text) return { image };
  const keys = text.length >= DIGEST_PREFIX_CHARS ? await templates.startingWith(text) : [];
  const [templateKey] = keys;
  if (keys.length + (image === undefined ? 0 : 1) > 1) {
    throw new SmolVMError("INVALID_CONFIG", `Cannot choose what to remove: "${text}" fits several digests and keys`, {
      details: { field: "image", value: text, expected: "more characters of the digest or key" },
    });
  }
  if (image !== undefined) return { image };
  if (templateKey !== undefined) return { templateKey };
  throw notFound;
}

async function removeTemplate(key: string, { cacheDir, templates, isInUse }: RemovalContext): Promise<RemovedEntry> {
  const removed = await removeUnused(cacheDir, templates.directoryOf(key), isInUse);
  if (removed !== undefined) return removed;
  throw new SmolVMError("BUSY", `Cannot remove template "${key}": a VM uses it`, { details: { key }, hint: BUSY_HINT });
}

async function removeWholeImage(image: ImageInfo, context: RemovalContext): Promise<RemovedEntry> {
  const { cacheDir, catalogue, templates } = context;
  const isInUse = withTemplates(image.digest, context);
  const busy = () =>
    new SmolVMError("BUSY", `Cannot remove image "${image.name}" (${image.digest}): a VM uses it or a template of it`, {
      details: { image: image.name, digest: image.digest },
      hint: BUSY_HINT,
    });
  if (await isInUse(image.directory)) throw busy();
  const gone: RemovedEntry[] = [];
  for (const directory of await templates.directoriesOfImage(image.digest)) {
    const entry = await removeUnused(cacheDir, directory, context.isInUse);
    if (entry !== undefined) gone.push(entry);
  }
  const removed = await removeUnused(cacheDir, image.directory, isInUse);
  if (removed === undefined) throw busy();
  await catalogue.unpoint(image.name, image.digest);
  return { ...removed, freedBytes: sumOf([removed, ...gone]), ...(gone.length === 0 ? {} : { templates: gone }) };
}

/** An image is in use while one of its templates is: a template's disk is a layer over the image's. */
function withTemplates(digest: string, { templates, isInUse }: RemovalContext): IsInUse {
  return async (directory) => {
    if (await isInUse(directory)) return true;
    for (const template of await templates.directoriesOfImage(digest)) if (await isInUse(template)) return true;
    return false;
  };
}

/**
 * Removes what no VM uses: templates; superseded images, with `all` current ones too; unpacked kernels and initramfs,
 * which are made again in a moment; and what dead builders left.
 */
export async function pruneCache(all: boolean, context: RemovalContext): Promise<PruneResult> {
  const { cacheDir, catalogue, isInUse } = context;
  const { initramfsDir, kernelsDir, templatesDir } = cacheLayout(cacheDir);
  const sweptBytes = await sweepStaging(cacheDir);
  const removed: RemovedEntry[] = [...(await removeUnusedEntries(cacheDir, templatesDir, isInUse))];
  for (const image of await catalogue.list()) {
    if (image.isCurrent && !all) continue;
    const entry = await removeUnused(cacheDir, image.directory, withTemplates(image.digest, context));
    if (entry === undefined) continue;
    removed.push(entry);
    await catalogue.unpoint(image.name, image.digest);
  }
  for (const directory of [initramfsDir, kernelsDir]) {
    removed.push(...(await removeUnusedEntries(cacheDir, directory, isInUse)));
  }
  return { removed, freedBytes: sweptBytes + sumOf(removed) };
}

function sumOf(entries: readonly RemovedEntry[]): number {
  return entries.reduce((sum, { freedBytes }) => sum + freedBytes, 0);
}
