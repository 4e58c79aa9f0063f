// Checks artefacts against their manifest: in full when a program version opens them first, after that
// by comparing what stat(2) says with a stamp beside the manifest. Any difference means in full again.

import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import type { Deadline } from "../base/deadline.js";
import type { ProgressListener } from "../base/progress.js";
import { SmolVMError } from "../errors/smolvm-error.js";
import { writeFileAtomically } from "./durable-files.js";
import { fileIdentity } from "./file-identity.js";
import { FileMemory } from "./file-memory.js";
import { hashFile } from "./hash-file.js";
import type { Manifest, ManifestArtefact } from "./manifest.js";

/** Artefact name to what stat(2) said when its content was last checked. */
const stampSchema = z.record(z.string(), z.string());
type Stamp = z.infer<typeof stampSchema>;

const stamps = new FileMemory<Stamp>();

/** What a verification needs to know beside the directory and its manifest. */
export interface VerifyOptions {
  readonly programVersion: string;
  readonly deadline: Deadline;
  readonly onProgress?: ProgressListener | undefined;
  /** What is being verified, for progress. Default `"image"`. */
  readonly subject?: string | undefined;
}

/**
 * @param manifest May name fewer artefacts than the directory has; the others are left alone then.
 * @throws {IMAGE_FAILED} naming the file, with the expected and the actual size or sha256.
 */
export async function verifyArtefacts(directory: string, manifest: Manifest, options: VerifyOptions): Promise<void> {
  const path = stampPath(directory, options.programVersion);
  const [known, current] = await Promise.all([readStamp(path), takeStamp(directory, manifest)]);
  const unchecked = manifest.artefacts.filter(({ name }) => known[name] !== current[name]);
  if (unchecked.length === 0) return;
  for (const artefact of unchecked) await verifyArtefact(directory, artefact, options);
  await writeFileAtomically(path, JSON.stringify({ ...known, ...current }));
}

/** Records that the artefacts are as the manifest says; for whoever has just hashed them. */
export async function stampAsVerified(directory: string, manifest: Manifest, programVersion: string): Promise<void> {
  const stamp = await takeStamp(directory, manifest);
  await writeFileAtomically(stampPath(directory, programVersion), JSON.stringify(stamp));
}

async function verifyArtefact(directory: string, artefact: ManifestArtefact, options: VerifyOptions): Promise<void> {
  const path = join(directory, artefact.name);
  const { size } = await stat(path);
  if (size !== artefact.sizeBytes) {
    throw corrupt(path, { property: "size in bytes", expected: artefact.sizeBytes, actual: size });
  }
  const actual = await hashFile(path, options.deadline, (fraction) =>
    options.onProgress?.({ step: `Verifying ${options.subject ?? "image"}`, detail: artefact.name, fraction }),
  );
  if (actual !== artefact.sha256) throw corrupt(path, { property: "sha256", expected: artefact.sha256, actual });
}

interface Mismatch {
  readonly property: string;
  readonly expected: string | number;
  readonly actual: string | number;
}

function corrupt(path: string, { property, expected, actual }: Mismatch): SmolVMError {
  const message = `Cannot use "${path}": its ${property} is ${actual}, recorded was ${expected}`;
  return new SmolVMError("IMAGE_FAILED", message, { details: { path, property, expected, actual } });
}

async function takeStamp(directory: string, manifest: Manifest): Promise<Stamp> {
  const entries = manifest.artefacts.map(async ({ name }) => [name, await fingerprint(join(directory, name))] as const);
  return Object.fromEntries(await Promise.all(entries));
}

async function fingerprint(path: string): Promise<string> {
  try {
    return await fileIdentity(path);
  } catch (error) {
    const reason = (error as NodeJS.ErrnoException).code;
    throw new SmolVMError("IMAGE_FAILED", `Cannot use "${path}": it is missing or unreadable (${reason})`, {
      details: { path, reason },
      cause: error,
    });
  }
}

async function readStamp(path: string): Promise<Stamp> {
  try {
    return await stamps.get(path, async () => stampSchema.parse(JSON.parse(await readFile(path, "utf8"))));
  } catch {
    return {}; // Absent or damaged: everything is checked again.
  }
}

function stampPath(directory: string, programVersion: string): string {
  return join(directory, `verified-${programVersion.replaceAll(/[^A-Za-z0-9.+-]/g, "_")}.json`);
}
