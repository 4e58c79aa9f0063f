// What is in the cache: published images by digest, and one pointer per name to its current image.

import { mkdir, readdir, readFile, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { SmolVMError } from "../errors/smolvm-error.js";
import { allocatedBytes } from "./allocated-bytes.js";
import { cacheLayout } from "./cache-layout.js";
import { writeFileAtomically } from "./durable-files.js";
import { FileMemory } from "./file-memory.js";
import { checkImageName } from "./image-name.js";
import { type Manifest, manifestDigest, manifestPath, readManifest } from "./manifest.js";

/** One file of an image. */
export interface ImageArtefact {
  readonly name: string;
  readonly path: string;
  readonly sizeBytes: number;
  readonly sha256: string;
}

/** One image in the cache. */
export interface ImageInfo {
  readonly name: string;
  /** sha256 of its manifest; names the content. */
  readonly digest: string;
  /** Whether this is what the name stands for now; an earlier build is not. */
  readonly isCurrent: boolean;
  readonly kernelRelease: string;
  /** Debian's name of the architecture. */
  readonly architecture: string;
  /** When it was built, ISO 8601. */
  readonly createdAt: string;
  /** Bytes it takes on disk. */
  readonly allocatedBytes: number;
  readonly directory: string;
  readonly artefacts: readonly ImageArtefact[];
}

const DIGEST_PATTERN = /^[0-9a-f]{64}$/;
/** Fewest characters by which a digest or a template's key may be named. */
export const DIGEST_PREFIX_CHARS = 4;

const pointerSchema = z.strictObject({
  digest: z.string().regex(DIGEST_PATTERN),
  /** Recipe that it was built from. */
  recipeKey: z.string(),
});
type ImagePointer = z.infer<typeof pointerSchema>;

const pointers = new FileMemory<ImagePointer>();

/** The published images of one cache directory. */
export class ImageCatalogue {
  readonly #imagesDir: string;
  readonly #namesDir: string;

  constructor(cacheDir: string) {
    const { imagesDir, namesDir } = cacheLayout(cacheDir);
    this.#imagesDir = imagesDir;
    this.#namesDir = namesDir;
  }

  directoryOf(digest: string): string {
    return join(this.#imagesDir, digest);
  }

  /** What `name` stands for, or `undefined`. A damaged pointer counts as none: the image is built anew. */
  async pointer(name: string): Promise<ImagePointer | undefined> {
    const path = this.#pointerPath(name);
    try {
      return await pointers.get(path, async () => pointerSchema.parse(JSON.parse(await readFile(path, "utf8"))));
    } catch {
      return undefined;
    }
  }

  async point(name: string, pointer: ImagePointer): Promise<void> {
    await mkdir(this.#namesDir, { recursive: true, mode: 0o755 });
    await writeFileAtomically(this.#pointerPath(name), `${JSON.stringify(pointer)}\n`);
  }

  /** Takes the name away from `digest`; a name that stands for another image by now keeps it. */
  async unpoint(name: string, digest: string): Promise<void> {
    if ((await this.pointer(name))?.digest === digest) await rm(this.#pointerPath(name), { force: true });
  }

  /**
   * The manifest of an image.
   *
   * @returns `undefined` when there is no such image.
   * @throws {IMAGE_FAILED} when the manifest is not the one the digest stands for.
   */
  async manifest(digest: string): Promise<Manifest | undefined> {
    const directory = this.directoryOf(digest);
    const manifest = await readManifest(directory);
    if (manifest === undefined || manifestDigest(manifest) === digest) return manifest;
    const path = manifestPath(directory);
    throw new SmolVMError("IMAGE_FAILED", `Cannot use manifest "${path}": it is not the one of digest ${digest}`, {
      details: { path, expected: digest, actual: manifestDigest(manifest) },
    });
  }

  /** Every image, the newest first; damaged ones too, as far as they can be described. */
  async list(): Promise<ImageInfo[]> {
    const digests = (await readdir(this.#imagesDir).catch(() => [])).filter((name) => DIGEST_PATTERN.test(name));
    const images = await Promise.all(digests.map((digest) => this.#describe(digest)));
    return images
      .filter((image): image is ImageInfo => image !== undefined)
      .sort((a, b) => b.createdAt.localeCompare(a.createdAt));
  }

  /**
   * One image by name, digest or the start of a digest.
   *
   * @throws {INVALID_CONFIG} naming `image` when the text cannot be any of these, or fits several digests.
   * @throws {IMAGE_NOT_FOUND}
   */
  async find(nameOrDigest: string): Promise<ImageInfo> {
    checkImageName(nameOrDigest);
    const images = await this.list();
    const named = images.find(({ name, isCurrent }) => isCurrent && name === nameOrDigest);
    if (named !== undefined) return named;
    const canBeDigest = nameOrDigest.length >= DIGEST_PREFIX_CHARS;
    const [found, ...others] = canBeDigest ? images.filter(({ digest }) => digest.startsWith(nameOrDigest)) : [];
    if (found === undefined) {
      throw new SmolVMError("IMAGE_NOT_FOUND", `Cannot find image "${nameOrDigest}" in the cache`, {
        details: { image: nameOrDigest, imagesDir: this.#imagesDir },
      });
    }
    if (others.length > 0) {
      const message = `Cannot choose an image: "${nameOrDigest}" fits ${others.length + 1} digests`;
      throw new SmolVMError("INVALID_CONFIG", message, {
        details: { field: "image", value: nameOrDigest, expected: "more characters of the digest" },
      });
    }
    return found;
  }

  async #describe(digest: string): Promise<ImageInfo | undefined> {
    const directory = this.directoryOf(digest);
    const info = await stat(directory).catch(() => undefined);
    if (info === undefined) return undefined;
    const manifest = await readManifest(directory).catch(() => undefined);
    const written = await stat(manifestPath(directory)).catch(() => info);
    const name = manifest?.facts["name"] ?? "(damaged)";
    return {
      name,
      digest,
      isCurrent: (await this.pointer(name))?.digest === digest,
      kernelRelease: manifest?.facts["kernelRelease"] ?? "",
      architecture: manifest?.facts["architecture"] ?? "",
      createdAt: written.mtime.toISOString(),
      allocatedBytes: await allocatedBytes(directory),
      directory,
      artefacts: manifest === undefined ? [] : listArtefacts(directory, manifest),
    };
  }

  #pointerPath(name: string): string {
    return join(this.#namesDir, `${name}.json`);
  }
}

/** A manifest's artefacts with their paths. */
export function listArtefacts(directory: string, manifest: Manifest): readonly ImageArtefact[] {
  return manifest.artefacts.map((artefact) => ({ ...artefact, path: join(directory, artefact.name) }));
}
