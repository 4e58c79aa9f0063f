// The manifest of a directory of artefacts: what is in it, how large, and with which sha256.

import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { SmolVMError } from "../errors/smolvm-error.js";
import { FileMemory } from "./file-memory.js";

const MANIFEST_FILE = "manifest.json";

const manifestSchema = z.strictObject({
  format: z.literal(1),
  /** What kind of thing it is and where it came from, by name. */
  facts: z.record(z.string(), z.string()),
  artefacts: z.array(
    z.strictObject({
      // A plain file name: nothing in a manifest can point out of its directory.
      name: z.string().regex(/^[a-z0-9][a-z0-9._-]*$/),
      sizeBytes: z.int().nonnegative(),
      sha256: z.string().regex(/^[0-9a-f]{64}$/),
    }),
  ),
});

/** What `manifest.json` says. */
export type Manifest = z.infer<typeof manifestSchema>;
/** One file of a manifest. */
export type ManifestArtefact = Manifest["artefacts"][number];

const manifests = new FileMemory<Manifest>();

/** The one text that a manifest is written as; its sha256 is {@link manifestDigest}. */
export function manifestText(manifest: Manifest): string {
  const facts = Object.fromEntries(Object.entries(manifest.facts).sort(([a], [b]) => (a < b ? -1 : 1)));
  const artefacts = manifest.artefacts
    .map(({ name, sizeBytes, sha256 }) => ({ name, sizeBytes, sha256 }))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
  return `${JSON.stringify({ format: manifest.format, facts, artefacts }, null, 2)}\n`;
}

/** Names the content: equal for equal artefacts and facts. */
export function manifestDigest(manifest: Manifest): string {
  return createHash("sha256").update(manifestText(manifest)).digest("hex");
}

/** Where the manifest of `directory` is. */
export function manifestPath(directory: string): string {
  return join(directory, MANIFEST_FILE);
}

/**
 * @returns `undefined` when the directory or its manifest does not exist.
 * @throws {IMAGE_FAILED} when the manifest is unreadable or makes no sense.
 */
export async function readManifest(directory: string): Promise<Manifest | undefined> {
  const path = manifestPath(directory);
  try {
    return await manifests.get(path, async () => manifestSchema.parse(JSON.parse(await readFile(path, "utf8"))));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw new SmolVMError("IMAGE_FAILED", `Cannot read manifest "${path}": it is damaged`, {
      details: { path },
      cause: error,
    });
  }
}
