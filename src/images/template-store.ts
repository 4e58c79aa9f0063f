// Templates: found when a VM starts, made once by whoever needs one first. How a machine is frozen is not known here.

import { mkdir, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { Deadline, type WaitOptions } from "../base/deadline.js";
import type { ProgressListener } from "../base/progress.js";
import { isSmolVMError, SmolVMError } from "../errors/smolvm-error.js";
import { cacheLayout, TEMPLATE_MEMORY_FILE } from "./cache-layout.js";
import { asImageError } from "./image-error.js";
import type { WithLock } from "./image-lock.js";
import { readManifest } from "./manifest.js";
import { publishDirectory } from "./publish.js";
import { type IsInUse, removeUnused } from "./remove-unused.js";
import { sealArtefacts } from "./seal.js";
import { sweepStaging, withStaging } from "./staging.js";
import { TemplateCatalogue } from "./template-catalogue.js";
import {
  TEMPLATE_FILES,
  type Template,
  type TemplateDamage,
  type TemplateFacts,
  type TemplateInfo,
  templateAt,
  templateKey,
} from "./template-files.js";
import { verifyArtefacts } from "./verification.js";

export type { Template, TemplateDamage, TemplateFacts, TemplateInfo };

/** What a store is made with. */
export interface TemplateStoreOptions {
  readonly cacheDir: string;
  readonly withLock: WithLock;
  /** Templates are verified in full once by each version. */
  readonly programVersion: string;
}

/** Options of whatever opens a template. `timeoutMs` is 5 minutes unless given. */
export interface TemplateOptions extends WaitOptions {
  /** Asked before a damaged template is removed. */
  readonly isInUse: IsInUse;
  /** Told of a damaged template; the caller then has none, and may make it anew. */
  readonly onDamaged?: ((damage: TemplateDamage) => void) | undefined;
  readonly onProgress?: ProgressListener | undefined;
}

/**
 * Makes a template's files in an empty directory: `memory`, `devices` and `disk.qcow2`, and nothing else.
 *
 * Nobody may have them open for writing any more when it returns.
 */
export type ProduceTemplate = (directory: string) => Promise<void>;

const TEMPLATE_TIMEOUT_MS = 5 * 60_000;
/** Errors of the host's that say nothing about the template. */
const HOST_SHORTAGE: ReadonlySet<unknown> = new Set(["EMFILE", "ENFILE", "ENOMEM"]);

/** The templates of one cache directory. */
export class TemplateStore {
  readonly #options: TemplateStoreOptions;
  readonly #catalogue: TemplateCatalogue;

  constructor(options: TemplateStoreOptions) {
    this.#options = options;
    this.#catalogue = new TemplateCatalogue(options.cacheDir);
  }

  /**
   * A template, verified: in full once by each program version, then by stat(2).
   *
   * Whoever builds on it puts that on record (so that `isInUse` knows) and then calls this, or `ImageStore.verify`, once
   * more: it may have been pruned in between.
   *
   * @param keyText Everything that shapes the machine.
   * @returns `undefined` when there is none, or it was damaged: then `onDamaged` was told why.
   * @throws {BUSY} when it is damaged and another process held its lock until the deadline.
   * @throws {TIMEOUT} {ABORTED}
   */
  async find(keyText: string, options: TemplateOptions): Promise<Template | undefined> {
    const key = templateKey(keyText);
    const deadline = Deadline.from(options, TEMPLATE_TIMEOUT_MS);
    const found = await this.#look(key, options, deadline);
    if (!isDamaged(found)) return found;
    // Only who has the lock removes it: what lies there by then may be another one, and whole.
    return this.#lock(key, () => this.#openOrRemove(key, options, deadline), deadline);
  }

  /**
   * {@link find}, or else makes the template. Of many processes that lack it one makes it, and the others wait.
   * Whatever happens, there is afterwards a whole template or none.
   *
   * @param produce See {@link ProduceTemplate}; what it throws is passed on as it is.
   * @throws {BUSY} when another process held its lock until the deadline.
   * @throws {IMAGE_FAILED} when it cannot be written, or a damaged one is in its place that a VM uses.
   * @throws {INTERNAL} when `produce` left other files than it should.
   * @throws {TIMEOUT} {ABORTED}
   */
  async make(
    keyText: string,
    facts: TemplateFacts,
    produce: ProduceTemplate,
    options: TemplateOptions,
  ): Promise<Template> {
    const key = templateKey(keyText);
    const deadline = Deadline.from(options, TEMPLATE_TIMEOUT_MS);
    const findOrMake = async () =>
      (await this.#openOrRemove(key, options, deadline)) ?? this.#make({ key, facts, produce, deadline });
    return this.#lock(key, findOrMake, deadline);
  }

  /** Every template in the cache, the newest first. */
  list(): Promise<readonly TemplateInfo[]> {
    return this.#catalogue.list();
  }

  /** @returns The template, or what is wrong with it, or `undefined` when there is nothing. */
  async #look(
    key: string,
    { onProgress }: TemplateOptions,
    deadline: Deadline,
  ): Promise<Template | Damaged | undefined> {
    const directory = this.#catalogue.directoryOf(key);
    const { programVersion } = this.#options;
    try {
      const manifest = await readManifest(directory);
      if (manifest === undefined) return (await isThere(directory)) ? { damage: "It has no manifest" } : undefined;
      const names = manifest.artefacts.map(({ name }) => name).sort();
      if (names.join() !== TEMPLATE_FILES.join()) return { damage: "Its manifest names other files" };
      await verifyArtefacts(directory, manifest, { programVersion, deadline, onProgress, subject: "template" });
      return templateAt(directory, key, manifest.facts);
    } catch (error) {
      const damage = damageOf(error);
      if (damage === undefined) throw error;
      return { damage };
    }
  }

  /** The template as it is while its lock is held; a damaged one goes, unless a VM uses it. */
  async #openOrRemove(key: string, options: TemplateOptions, deadline: Deadline): Promise<Template | undefined> {
    const found = await this.#look(key, options, deadline);
    if (!isDamaged(found)) return found;
    const directory = this.#catalogue.directoryOf(key);
    const removed = await removeUnused(this.#options.cacheDir, directory, options.isInUse);
    const isRemoved = removed !== undefined || !(await isThere(directory));
    options.onDamaged?.({ key, directory, reason: found.damage, isRemoved });
    return undefined;
  }

  async #make({ key, facts, produce, deadline }: Making): Promise<Template> {
    const { cacheDir, programVersion } = this.#options;
    const target = this.#catalogue.directoryOf(key);
    if (await isThere(target)) throw inTheWay(target);
    await sweepStaging(cacheDir);
    return withStaging(cacheDir, async (staging) => {
      const outDir = join(staging, "template");
      await mkdir(outDir);
      await produce(outDir);
      await checkProduced(outDir);
      try {
        const seal = { facts, programVersion, deadline, openedForWriting: [TEMPLATE_MEMORY_FILE] };
        await sealArtefacts(outDir, seal);
        // A guest's memory is nobody else's to read.
        await mkdir(cacheLayout(cacheDir).templatesDir, { recursive: true, mode: 0o700 });
        if (!(await publishDirectory(outDir, { target }))) throw inTheWay(target);
      } catch (error) {
        throw asImageError(error, "make a template");
      }
      return templateAt(target, key, facts);
    });
  }

  #lock<T>(key: string, body: () => Promise<T>, { signal, remainingMs }: Deadline): Promise<T> {
    return this.#options.withLock(`template ${key}`, body, { signal, timeoutMs: remainingMs });
  }
}

interface Making {
  readonly key: string;
  readonly facts: TemplateFacts;
  readonly produce: ProduceTemplate;
  readonly deadline: Deadline;
}

interface Damaged {
  readonly damage: string;
}

function isDamaged(found: Template | Damaged | undefined): found is Damaged {
  return found !== undefined && "damage" in found;
}

/** What an error of the verification says about the template; `undefined` when it says nothing about it. */
function damageOf(error: unknown): string | undefined {
  if (!isSmolVMError(error, "IMAGE_FAILED")) return undefined;
  return HOST_SHORTAGE.has((error.cause as NodeJS.ErrnoException | undefined)?.code) ? undefined : error.message;
}

function inTheWay(directory: string): SmolVMError {
  const message = `Cannot make a template: a damaged one at "${directory}" is in use by a VM`;
  return new SmolVMError("IMAGE_FAILED", message, {
    details: { path: directory },
    hint: "Delete the VMs that were started from it; others boot without a template.",
  });
}

async function checkProduced(directory: string): Promise<void> {
  const entries = await readdir(directory, { withFileTypes: true });
  const found = entries.map((entry) => (entry.isFile() ? entry.name : `${entry.name} (no file)`)).sort();
  const sizes = await Promise.all(TEMPLATE_FILES.map((name) => sizeOf(join(directory, name))));
  if (found.join() === TEMPLATE_FILES.join() && sizes.every((size) => size > 0)) return;
  const expected = `${TEMPLATE_FILES.join(", ")}, none of them empty`;
  throw new SmolVMError("INTERNAL", `Cannot make a template: its maker left ${found.join(", ") || "nothing"}`, {
    details: { expected, found, sizes },
  });
}

function sizeOf(path: string): Promise<number> {
  return stat(path).then(
    ({ size }) => size,
    () => 0,
  );
}

function isThere(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
