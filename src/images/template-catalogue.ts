// Which templates are in the cache. It says what is there; whether that can be used is template-store.ts's to say.

import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { allocatedBytes } from "./allocated-bytes.js";
import { cacheLayout } from "./cache-layout.js";
import { type Manifest, manifestPath, readManifest } from "./manifest.js";
import type { TemplateInfo } from "./template-files.js";

const KEY_PATTERN = /^[0-9a-f]{64}$/;

/** The published templates of one cache directory. */
export class TemplateCatalogue {
  readonly #templatesDir: string;

  constructor(cacheDir: string) {
    this.#templatesDir = cacheLayout(cacheDir).templatesDir;
  }

  directoryOf(key: string): string {
    return join(this.#templatesDir, key);
  }

  /** Every template, the newest first; damaged ones too, as far as they can be described. */
  async list(): Promise<TemplateInfo[]> {
    const templates = await Promise.all((await this.#keys()).map((key) => this.#describe(key)));
    return templates
      .filter((template): template is TemplateInfo => template !== undefined)
      .sort((a, b) => b.createdAt.localeCompare(a.createdAt));
  }

  /**
   * Directories of the templates that were booted from an image, and of those too damaged to say what they were booted
   * from.
   */
  async directoriesOfImage(digest: string): Promise<string[]> {
    const directories = (await this.#keys()).map((key) => this.directoryOf(key));
    const manifests = await Promise.all(directories.map(readAnyManifest));
    return directories.filter((_, index) => {
      const manifest = manifests[index];
      return manifest === undefined || manifest.facts["imageDigest"] === digest;
    });
  }

  /** Templates whose key begins so. */
  async startingWith(text: string): Promise<string[]> {
    return (await this.#keys()).filter((key) => key.startsWith(text));
  }

  async #keys(): Promise<string[]> {
    return (await readdir(this.#templatesDir).catch(() => [])).filter((name) => KEY_PATTERN.test(name));
  }

  async #describe(key: string): Promise<TemplateInfo | undefined> {
    const directory = this.directoryOf(key);
    const info = await stat(directory).catch(() => undefined);
    if (info === undefined) return undefined;
    const facts = (await readAnyManifest(directory))?.facts ?? {};
    const written = await stat(manifestPath(directory)).catch(() => info);
    const { image: name = "", imageDigest: digest = "" } = facts;
    return {
      key,
      image: name === "" || digest === "" ? null : { name, digest },
      facts,
      createdAt: written.mtime.toISOString(),
      allocatedBytes: await allocatedBytes(directory),
      directory,
    };
  }
}

function readAnyManifest(directory: string): Promise<Manifest | undefined> {
  return readManifest(directory).catch(() => undefined);
}
