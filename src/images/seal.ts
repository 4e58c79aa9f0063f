// Turns a staged directory of files into a set of artefacts: read-only, hashed, with manifest and first stamp.

import { chmod, readdir, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Deadline } from "../base/deadline.js";
import { syncToDisk } from "./durable-files.js";
import { hashFile } from "./hash-file.js";
import { type Manifest, type ManifestArtefact, manifestPath, manifestText } from "./manifest.js";
import { stampAsVerified } from "./verification.js";

/** What goes into the manifest beside the files, and who says so. */
export interface SealOptions {
  readonly facts: Readonly<Record<string, string>>;
  readonly programVersion: string;
  readonly deadline: Deadline;
  /**
   * Names of files that stay writable for their owner. QEMU 7.2 opens the file behind a private mapping of the
   * guest's memory for writing, though it writes nothing to it; an ordinary user could not start a VM otherwise.
   */
  readonly openedForWriting?: readonly string[] | undefined;
}

/** Seals every file of `directory`. It may then be published, but no longer changed. */
export async function sealArtefacts(directory: string, options: SealOptions): Promise<Manifest> {
  const artefacts: ManifestArtefact[] = [];
  for (const name of (await readdir(directory)).sort()) {
    const path = join(directory, name);
    await chmod(path, options.openedForWriting?.includes(name) === true ? 0o600 : 0o444);
    const [sha256] = await Promise.all([hashFile(path, options.deadline), syncToDisk(path)]);
    artefacts.push({ name, sizeBytes: (await stat(path)).size, sha256 });
  }
  const manifest: Manifest = { format: 1, facts: { ...options.facts }, artefacts };
  await writeFile(manifestPath(directory), manifestText(manifest), { mode: 0o444 });
  await syncToDisk(manifestPath(directory));
  await stampAsVerified(directory, manifest, options.programVersion);
  await chmod(directory, 0o755);
  await syncToDisk(directory);
  return manifest;
}
