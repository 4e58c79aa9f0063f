// Opens named images: finds the one its recipe asks for, builds it when there is none, verifies it.

import { join } from "node:path";
import type { Deadline } from "../base/deadline.js";
import type { ProgressListener } from "../base/progress.js";
import { SmolVMError } from "../errors/smolvm-error.js";
import { imageArchitecture } from "./architecture.js";
import type { BuildImageOptions } from "./build-image.js";
import { KERNEL_FILE, MODULES_FILE, ROOTFS_FILE } from "./cache-layout.js";
import { type ImageArtefact, type ImageCatalogue, listArtefacts } from "./image-catalogue.js";
import type { LockImages } from "./image-lock.js";
import { type ImageRecipe, recipeKey } from "./recipes.js";
import { sweepStaging } from "./staging.js";
import { verifyArtefacts } from "./verification.js";

/** What a provider is made with. */
export interface ImageProviderOptions {
  readonly cacheDir: string;
  readonly catalogue: ImageCatalogue;
  readonly lockImages: LockImages;
  readonly mirror: string | undefined;
  readonly programVersion: string;
  /** Builds and publishes one image; returns its digest. */
  readonly buildImage: (options: BuildImageOptions) => Promise<string>;
}

/** Bounds and reports of one call. */
export interface ProvideOptions {
  readonly deadline: Deadline;
  readonly onProgress?: ProgressListener | undefined;
  /** Builds even when there is an image already. */
  readonly force?: boolean | undefined;
}

/** A verified image. */
export interface OpenImage {
  readonly name: string;
  readonly digest: string;
  readonly kernelPath: string;
  readonly kernelRelease: string;
  readonly rootfsPath: string;
  readonly rootfsSizeBytes: number;
  readonly modulesPath: string;
  readonly artefacts: readonly ImageArtefact[];
}

/** Gives images for recipes. */
export class ImageProvider {
  readonly #options: ImageProviderOptions;

  constructor(options: ImageProviderOptions) {
    this.#options = options;
  }

  /** {@link provide}, then verified. */
  async open(recipe: ImageRecipe, options: ProvideOptions): Promise<OpenImage> {
    const { catalogue, programVersion } = this.#options;
    const digest = await this.provide(recipe, options);
    const directory = catalogue.directoryOf(digest);
    const manifest = await catalogue.manifest(digest);
    if (manifest === undefined) {
      throw new SmolVMError("IMAGE_FAILED", `Cannot open image "${recipe.name}": "${directory}" was just removed`);
    }
    await verifyArtefacts(directory, manifest, { ...options, programVersion });
    return {
      name: recipe.name,
      digest,
      kernelPath: join(directory, KERNEL_FILE),
      kernelRelease: manifest.facts["kernelRelease"] ?? "",
      rootfsPath: join(directory, ROOTFS_FILE),
      rootfsSizeBytes: manifest.artefacts.find(({ name }) => name === ROOTFS_FILE)?.sizeBytes ?? 0,
      modulesPath: join(directory, MODULES_FILE),
      artefacts: listArtefacts(directory, manifest),
    };
  }

  /** The digest of a recipe's image. Of many processes that lack it one builds, and the others wait. */
  async provide(recipe: ImageRecipe, options: ProvideOptions): Promise<string> {
    const { lockImages } = this.#options;
    const { deadline, force = false } = options;
    const find = async () => (force ? undefined : await this.#find(recipe));
    return (await find()) ?? lockImages(async () => (await find()) ?? this.#build(recipe, options), deadline);
  }

  async #find(recipe: ImageRecipe): Promise<string | undefined> {
    const { catalogue } = this.#options;
    const pointer = await catalogue.pointer(recipe.name);
    if (pointer?.recipeKey !== recipeKey(recipe, imageArchitecture())) return undefined;
    return (await catalogue.manifest(pointer.digest)) === undefined ? undefined : pointer.digest;
  }

  async #build(recipe: ImageRecipe, { deadline, onProgress = () => {} }: ProvideOptions): Promise<string> {
    const { cacheDir, catalogue, mirror, programVersion, buildImage } = this.#options;
    const architecture = imageArchitecture();
    await sweepStaging(cacheDir);
    const build = { recipe, architecture, mirror, cacheDir, programVersion, deadline, onProgress };
    const digest = await buildImage(build);
    await catalogue.point(recipe.name, { digest, recipeKey: recipeKey(recipe, architecture) });
    return digest;
  }
}
