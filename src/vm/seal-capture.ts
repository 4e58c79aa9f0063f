// The manifest of a snapshot: sizes and checksums of its files, written when it is made and proved before anything is
// started from it.

import { chmod, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import type { Deadline } from "../base/deadline.js";
import { SmolVMError } from "../errors/smolvm-error.js";
import { runProgram } from "../host/process.js";
import { fileIdentity } from "../images/file-identity.js";
import { CAPTURE_FILES } from "./capture-spec.js";
import { ENVIRONMENT_FILE } from "./environment-file.js";
import { helperPath } from "./helper-programs.js";

const MANIFEST_FILE = "manifest.json";
/** What a manifest vouches for: all that a VM goes on from, no more and no less. */
const SEALED_FILES: readonly string[] = [...Object.values(CAPTURE_FILES), ENVIRONMENT_FILE].sort();

const manifestSchema = z.strictObject({
  format: z.literal(1),
  files: z.array(
    z.strictObject({
      name: z.string(),
      sizeBytes: z.int(),
      /** SHA-256 over the pieces that are not all zeros, see agent/internal/sparsehash. */
      sha256: z.string(),
    }),
  ),
});
type Manifest = z.infer<typeof manifestSchema>;

/** Stat identities of files that this program has seen to be right. */
const proved = new Map<string, string>();

/** Makes a capture's files read-only and writes their manifest. */
export async function sealCapture(directory: string, deadline: Deadline): Promise<void> {
  const names = SEALED_FILES;
  const digests = await digestsOf(directory, names, deadline);
  const files = await Promise.all(
    names.map(async (name, index) => {
      const path = join(directory, name);
      if (name !== CAPTURE_FILES.memory) await chmod(path, 0o400); // QEMU opens memory for writing and maps it privately.
      return { name, sizeBytes: (await stat(path)).size, sha256: digests[index] ?? "" };
    }),
  );
  await writeFile(join(directory, MANIFEST_FILE), JSON.stringify({ format: 1, files } satisfies Manifest), {
    mode: 0o400,
    flag: "wx",
  });
  for (const name of names) await remember(join(directory, name));
}

/**
 * Proves that a sealed capture's files are what was written. In full once for each program, later by stat.
 *
 * @throws {SNAPSHOT_FAILED} naming the file that is missing, has another size or was altered.
 */
export async function verifyCapture(directory: string, deadline: Deadline): Promise<void> {
  const { files } = await readManifest(directory);
  for (const { name, sizeBytes } of files) {
    const path = join(directory, name);
    const found = await stat(path).catch(() => undefined);
    if (found?.size !== sizeBytes) throw damaged(path, "size in bytes", sizeBytes, found?.size ?? "none");
  }
  const known = await Promise.all(files.map(({ name }) => isProved(join(directory, name))));
  const open = files.filter((_, index) => !known[index]);
  if (open.length === 0) return;
  const before = await Promise.all(open.map(({ name }) => fileIdentity(join(directory, name))));
  const names = open.map(({ name }) => name);
  const digests = await digestsOf(directory, names, deadline);
  for (const [index, { name, sha256 }] of open.entries()) {
    const path = join(directory, name);
    if (digests[index] !== sha256) throw damaged(path, "sha256", sha256, digests[index] ?? "none");
    proved.set(path, before[index] ?? "");
  }
}

async function readManifest(directory: string): Promise<Manifest> {
  const path = join(directory, MANIFEST_FILE);
  try {
    const manifest = manifestSchema.parse(JSON.parse(await readFile(path, "utf8")));
    const names = manifest.files.map(({ name }) => name).sort();
    if (names.join("/") === SEALED_FILES.join("/")) return manifest;
    throw new SmolVMError("INTERNAL", `It names ${names.join(", ") || "no file"}`);
  } catch (error) {
    throw new SmolVMError("SNAPSHOT_FAILED", `Cannot use "${path}": it is missing or damaged`, {
      details: { path },
      cause: error,
    });
  }
}

async function digestsOf(directory: string, names: readonly string[], deadline: Deadline): Promise<string[]> {
  const paths = names.map((name) => join(directory, name));
  const { stdout } = await runProgram([helperPath("ramcopy"), "digest", ...paths], {
    timeoutMs: deadline.remainingMs,
    signal: deadline.signal,
  });
  return stdout.trim().split("\n");
}

async function isProved(path: string): Promise<boolean> {
  return proved.get(path) === (await fileIdentity(path));
}

async function remember(path: string): Promise<void> {
  proved.set(path, await fileIdentity(path));
}

function damaged(path: string, property: string, expected: string | number, actual: string | number): SmolVMError {
  return new SmolVMError(
    "SNAPSHOT_FAILED",
    `Cannot use "${path}": its ${property} is ${actual}, recorded was ${expected}`,
    {
      details: { path, property, expected, actual },
    },
  );
}
