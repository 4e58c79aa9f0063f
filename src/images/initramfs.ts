// Puts the initramfs of one boot together: the user's part, the kernel's modules, the agent. Kept by what went in.

import { createHash } from "node:crypto";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { CacheContext } from "./cache-context.js";
import { cacheLayout, INITRAMFS_FILE } from "./cache-layout.js";
import { cpioArchive, padToFour } from "./cpio.js";
import { hashFileOnce } from "./hash-file.js";
import { asImageError } from "./image-error.js";
import { readManifest } from "./manifest.js";
import { publishDirectory } from "./publish.js";
import { sealArtefacts } from "./seal.js";
import { withStaging } from "./staging.js";
import { verifyArtefacts } from "./verification.js";

/** What an initramfs is made of. */
export interface InitramfsParts {
  /** The guest agent; it becomes `/init`. */
  readonly agentPath: string;
  /** An image's `modules.cpio`. */
  readonly modulesPath?: string | undefined;
  /** The user's own, which may be compressed. It comes first, so that `/init` stays the agent. */
  readonly userInitrdPath?: string | undefined;
}

/** Raise it when the layout of our own part changes. */
const LAYOUT_VERSION = 1;
/** Mount points that the agent needs before there is a root file system. */
const DIRECTORIES = ["dev", "proc", "sys", "newroot"];

/** A fact of its manifest: where our own part begins, in bytes. The first checkouts did not record it. */
const OWN_PART_AT = "ownPartAt";

/**
 * @returns Path of the initramfs, made now or found and verified.
 * @throws {IMAGE_FAILED} when the one found is damaged.
 */
export async function provideInitramfs(parts: InitramfsParts, cache: CacheContext): Promise<string> {
  const { agentPath, modulesPath, userInitrdPath } = parts;
  try {
    const digestOf = (path: string | undefined) => (path === undefined ? "none" : hashFileOnce(path, cache.deadline));
    const digests = await Promise.all([userInitrdPath, modulesPath, agentPath].map(digestOf));
    return await provide(digests, () => readParts(parts), cache);
  } catch (error) {
    throw asImageError(error, "make the initramfs");
  }
}

/**
 * The same initramfs with the agent of this package instead of the one in it; itself when it has that. What else it was
 * made of is not known any more when a VM starts again, only where that ends. Where not even that is known, the agent
 * comes after the other one, as the last one counts.
 *
 * @throws {IMAGE_FAILED}
 */
export async function renewInitramfs(path: string, agentPath: string, cache: CacheContext): Promise<string> {
  try {
    const [old, agent, manifest] = await Promise.all([
      readFile(path),
      readFile(agentPath),
      readManifest(dirname(path)),
    ]);
    const own = ownPart(agent);
    if (old.subarray(-own.length).equals(own)) return path;
    const before = old.subarray(0, Number(manifest?.facts[OWN_PART_AT] ?? old.length));
    // As of a user's initrd with what came before.
    return await provide([sha256(before), "none", sha256(agent)], async () => ({ before, own }), cache);
  } catch (error) {
    throw asImageError(error, "renew the initramfs");
  }
}

/** What an initramfs consists of. */
interface Content {
  readonly before: Buffer;
  /** What {@link ownPart} gives. */
  readonly own: Buffer;
}

/** @param digests Of the user's part, the modules and the agent: they name the initramfs. */
async function provide(digests: readonly string[], read: () => Promise<Content>, cache: CacheContext): Promise<string> {
  const key = sha256([LAYOUT_VERSION, ...digests].join(" "));
  const target = join(cacheLayout(cache.cacheDir).initramfsDir, key);
  const manifest = await readManifest(target);
  if (manifest === undefined) await publishInitramfs(target, await read(), cache);
  else await verifyArtefacts(target, manifest, cache);
  return join(target, INITRAMFS_FILE);
}

async function publishInitramfs(target: string, content: Content, cache: CacheContext): Promise<void> {
  const { cacheDir, programVersion, deadline } = cache;
  const before = padToFour(content.before);
  const facts = { kind: "initramfs", [OWN_PART_AT]: String(before.length) };
  await withStaging(cacheDir, async (staging) => {
    const outDir = join(staging, "initramfs");
    await mkdir(outDir);
    await writeFile(join(outDir, INITRAMFS_FILE), Buffer.concat([before, content.own]));
    await sealArtefacts(outDir, { facts, programVersion, deadline });
    await publishDirectory(outDir, { target });
  });
}

async function readParts({ agentPath, modulesPath, userInitrdPath }: InitramfsParts): Promise<Content> {
  const [user, modules, agent] = await Promise.all([
    userInitrdPath === undefined ? Buffer.alloc(0) : readFile(userInitrdPath),
    modulesPath === undefined ? Buffer.alloc(0) : readFile(modulesPath),
    readFile(agentPath),
  ]);
  return { before: Buffer.concat([padToFour(user), padToFour(modules)]), own: ownPart(agent) };
}

function sha256(data: string | Uint8Array): string {
  return createHash("sha256").update(data).digest("hex");
}

/** What comes last in every initramfs. */
function ownPart(agent: Buffer): Buffer {
  return cpioArchive([
    ...DIRECTORIES.map((name) => ({ type: "directory" as const, name })),
    { type: "file", name: "init", data: agent, executable: true },
  ]);
}
