// Puts the initramfs of one boot together: the user's part, the kernel's modules, the agent. Kept by what went in.

import { createHash } from "node:crypto";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Deadline } from "../base/deadline.js";
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

/**
 * @returns Path of the initramfs, made now or found and verified.
 * @throws {IMAGE_FAILED} when the one found is damaged.
 */
export async function provideInitramfs(parts: InitramfsParts, cache: CacheContext): Promise<string> {
  try {
    const target = join(cacheLayout(cache.cacheDir).initramfsDir, await keyOf(parts, cache.deadline));
    const manifest = await readManifest(target);
    if (manifest === undefined) await publishInitramfs(target, parts, cache);
    else await verifyArtefacts(target, manifest, cache);
    return join(target, INITRAMFS_FILE);
  } catch (error) {
    throw asImageError(error, "make the initramfs");
  }
}

/**
 * The same initramfs with the agent of this package: itself, or one that has it besides the one in it, where what comes
 * last counts. What else an initramfs was made of is not known any more when a VM starts again.
 *
 * @throws {IMAGE_FAILED}
 */
export async function renewInitramfs(path: string, agentPath: string, cache: CacheContext): Promise<string> {
  try {
    const own = ownPart(await readFile(agentPath));
    if ((await readFile(path)).subarray(-own.length).equals(own)) return path;
  } catch (error) {
    throw asImageError(error, "renew the initramfs");
  }
  return provideInitramfs({ agentPath, userInitrdPath: path }, cache);
}

async function publishInitramfs(target: string, parts: InitramfsParts, cache: CacheContext): Promise<void> {
  const { cacheDir, programVersion, deadline } = cache;
  await withStaging(cacheDir, async (staging) => {
    const outDir = join(staging, "initramfs");
    await mkdir(outDir);
    await writeFile(join(outDir, INITRAMFS_FILE), await assemble(parts));
    await sealArtefacts(outDir, { facts: { kind: "initramfs" }, programVersion, deadline });
    await publishDirectory(outDir, { target });
  });
}

async function keyOf({ agentPath, modulesPath, userInitrdPath }: InitramfsParts, deadline: Deadline): Promise<string> {
  const digestOf = (path: string | undefined) => (path === undefined ? "none" : hashFileOnce(path, deadline));
  const digests = await Promise.all([userInitrdPath, modulesPath, agentPath].map(digestOf));
  return createHash("sha256")
    .update([LAYOUT_VERSION, ...digests].join(" "))
    .digest("hex");
}

async function assemble({ agentPath, modulesPath, userInitrdPath }: InitramfsParts): Promise<Buffer> {
  const [user, modules, agent] = await Promise.all([
    userInitrdPath === undefined ? Buffer.alloc(0) : readFile(userInitrdPath),
    modulesPath === undefined ? Buffer.alloc(0) : readFile(modulesPath),
    readFile(agentPath),
  ]);
  return Buffer.concat([padToFour(user), padToFour(modules), ownPart(agent)]);
}

/** What comes last in every initramfs. */
function ownPart(agent: Buffer): Buffer {
  return cpioArchive([
    ...DIRECTORIES.map((name) => ({ type: "directory" as const, name })),
    { type: "file", name: "init", data: agent, executable: true },
  ]);
}
