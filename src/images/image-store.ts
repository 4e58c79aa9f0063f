// The room's front: named images made when first needed, verified when first opened, removed when unused.

import { Deadline, type WaitOptions } from "../base/deadline.js";
import type { ProgressListener } from "../base/progress.js";
import { type BootFiles, collectBootFiles } from "./boot-files.js";
import { type BootRequest, checkBootRequest } from "./boot-request.js";
import { buildImage } from "./build-image.js";
import type { CacheContext } from "./cache-context.js";
import { ImageCatalogue, type ImageInfo } from "./image-catalogue.js";
import { imagesLock, type LockImages, type WithLock } from "./image-lock.js";
import { recipeFor } from "./image-name.js";
import { ImageProvider, type OpenImage } from "./image-provider.js";
import { type PruneResult, pruneCache, type RemovalContext, removeImage } from "./image-removal.js";
import { provideInitramfs, renewInitramfs } from "./initramfs.js";
import { checkMirror } from "./mirror.js";
import type { IsInUse, RemovedEntry } from "./remove-unused.js";
import { TemplateCatalogue } from "./template-catalogue.js";
import { TemplateStore } from "./template-store.js";
import { verifyFiles } from "./verify-files.js";

export type { ImageArtefact } from "./image-catalogue.js";
export type { BootFiles, BootRequest, ImageInfo, IsInUse, PruneResult, RemovedEntry, WithLock };

/** What a store is made with. */
export interface ImageStoreOptions {
  readonly cacheDir: string;
  /** The guest agent's binary for this host's architecture. */
  readonly agentPath: string;
  readonly withLock: WithLock;
  /** Debian mirror's address; mmdebstrap's own default when undefined. */
  readonly mirror?: string | undefined;
  /** Artefacts are verified in full once by each version. */
  readonly programVersion: string;
}

/** Options of whatever may build an image. `timeoutMs` is 30 minutes unless given. */
export interface ImageWaitOptions extends WaitOptions {
  readonly onProgress?: ProgressListener | undefined;
}

/** Options of {@link ImageStore.build}. */
export interface ImageBuildOptions extends ImageWaitOptions {
  /** Builds even when there is an image already. Default false. */
  readonly force?: boolean | undefined;
}

/** Options of {@link ImageStore.remove}. `timeoutMs` is one minute unless given. */
export interface ImageRemoveOptions extends WaitOptions {
  readonly isInUse: IsInUse;
}

/** Options of {@link ImageStore.prune}. */
export interface ImagePruneOptions extends ImageRemoveOptions {
  /** Removes images that a name stands for, too. Default false. */
  readonly all?: boolean | undefined;
}

/** A named image, ready to boot. */
export interface BootImage extends Omit<OpenImage, "modulesPath"> {
  readonly initrdPath: string;
}

const BUILD_TIMEOUT_MS = 30 * 60_000;
const VERIFY_TIMEOUT_MS = 5 * 60_000;
const REMOVE_TIMEOUT_MS = 60_000;

/**
 * The images of one cache directory.
 *
 * @example
 * const store = new ImageStore({ cacheDir, agentPath, withLock, programVersion });
 * const { kernelPath, initrdPath, rootfsPath } = await store.resolve("debian");
 */
export class ImageStore {
  readonly #options: ImageStoreOptions;
  readonly #catalogue: ImageCatalogue;
  readonly #provider: ImageProvider;
  readonly #lockImages: LockImages;
  /** Machines frozen after their boot, which a start maps instead of booting. */
  readonly templates: TemplateStore;

  /** @throws {INVALID_CONFIG} naming `mirror` when it is no address. */
  constructor(options: ImageStoreOptions) {
    const { cacheDir, mirror, programVersion } = options;
    if (mirror !== undefined) checkMirror(mirror);
    const catalogue = new ImageCatalogue(cacheDir);
    const lockImages = imagesLock(options.withLock);
    this.#options = options;
    this.templates = new TemplateStore({ cacheDir, programVersion, withLock: options.withLock });
    this.#catalogue = catalogue;
    this.#lockImages = lockImages;
    this.#provider = new ImageProvider({ cacheDir, catalogue, lockImages, mirror, programVersion, buildImage });
  }

  /**
   * A named image, built now unless the cache has it as its recipe says today.
   *
   * @throws {INVALID_CONFIG} naming `image` when the text cannot be a name.
   * @throws {IMAGE_NOT_FOUND} when there is no image of this name.
   * @throws {IMAGE_FAILED} when it cannot be built, or what is on disk is not what was recorded.
   * @throws {HOST_UNSUPPORTED} when it has to be built and the host lacks programs for that.
   */
  async resolve(name: string, options: ImageWaitOptions = {}): Promise<BootImage> {
    const cache = this.#cache(Deadline.from(options, BUILD_TIMEOUT_MS));
    const image = await this.#provider.open(recipeFor(name), { ...options, deadline: cache.deadline });
    const { modulesPath, ...files } = image;
    const initrdPath = await provideInitramfs({ agentPath: this.#options.agentPath, modulesPath }, cache);
    return { ...files, initrdPath };
  }

  /**
   * Everything one VM boots from: the user's own files where given, a named image's for the rest.
   * With both `kernelPath` and `rootfsPath` no image is needed, and none is built.
   *
   * @throws {INVALID_CONFIG} naming the field, before anything is made. Otherwise as {@link resolve}.
   */
  async resolveBoot(request: BootRequest, options: ImageWaitOptions = {}): Promise<BootFiles> {
    const { custom, recipe } = await checkBootRequest(request);
    const cache = this.#cache(Deadline.from(options, BUILD_TIMEOUT_MS));
    const image =
      recipe === undefined ? undefined : await this.#provider.open(recipe, { ...options, deadline: cache.deadline });
    return collectBootFiles({ custom, image, agentPath: this.#options.agentPath }, cache);
  }

  /**
   * Verifies files that {@link resolveBoot} gave at some time, as far as they are in the cache.
   *
   * @throws {IMAGE_FAILED} naming the file that is gone or not what was recorded.
   */
  async verify(paths: readonly string[], options: WaitOptions = {}): Promise<void> {
    await verifyFiles(paths, this.#cache(Deadline.from(options, VERIFY_TIMEOUT_MS)));
  }

  /**
   * An initramfs that {@link resolveBoot} of another version of this package gave, with the agent of this one instead of its own.
   *
   * @returns Its own path when it has that already.
   * @throws {IMAGE_FAILED} when it is gone or not what was recorded.
   */
  async renew(initrdPath: string, options: WaitOptions = {}): Promise<string> {
    await this.verify([initrdPath], options);
    const cache = this.#cache(Deadline.from(options, VERIFY_TIMEOUT_MS));
    return renewInitramfs(initrdPath, this.#options.agentPath, cache);
  }

  /** Builds an image unless the cache has it. Throws as {@link resolve}. */
  async build(name: string, options: ImageBuildOptions = {}): Promise<ImageInfo> {
    const deadline = Deadline.from(options, BUILD_TIMEOUT_MS);
    const digest = await this.#provider.provide(recipeFor(name), { ...options, deadline });
    return this.#catalogue.find(digest);
  }

  /** Every image in the cache, the newest first. */
  list(): Promise<readonly ImageInfo[]> {
    return this.#catalogue.list();
  }

  /**
   * @param nameOrDigest A name, a digest or the start of one.
   * @throws {INVALID_CONFIG} naming `image` when the text cannot be any of these, or fits several images.
   * @throws {IMAGE_NOT_FOUND}
   */
  inspect(nameOrDigest: string): Promise<ImageInfo> {
    return this.#catalogue.find(nameOrDigest);
  }

  /**
   * Removes one image and its templates, or one template.
   *
   * @param text As of {@link inspect}, or the start of a template's key.
   * @throws {BUSY} when a VM uses it, or a template of it. Otherwise as {@link inspect}.
   */
  remove(text: string, options: ImageRemoveOptions): Promise<RemovedEntry> {
    const deadline = Deadline.from(options, REMOVE_TIMEOUT_MS);
    return this.#lockImages(() => removeImage(text, this.#removal(options.isInUse)), deadline);
  }

  /** Removes whatever no VM uses, and what dead builders left. */
  prune(options: ImagePruneOptions): Promise<PruneResult> {
    const deadline = Deadline.from(options, REMOVE_TIMEOUT_MS);
    return this.#lockImages(() => pruneCache(options.all ?? false, this.#removal(options.isInUse)), deadline);
  }

  #cache(deadline: Deadline): CacheContext {
    const { cacheDir, programVersion } = this.#options;
    return { cacheDir, programVersion, deadline };
  }

  #removal(isInUse: IsInUse): RemovalContext {
    const { cacheDir } = this.#options;
    return { cacheDir, catalogue: this.#catalogue, templates: new TemplateCatalogue(cacheDir), isInUse };
  }
}
