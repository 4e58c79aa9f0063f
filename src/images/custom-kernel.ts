// Gives a VMM a kernel of the user's own: as it is, or unpacked once and kept.

import { mkdir, open, rename } from "node:fs/promises";
import { join } from "node:path";
import { invalidConfig } from "../errors/invalid-config.js";
import { isSmolVMError, type SmolVMError } from "../errors/smolvm-error.js";
import type { CacheContext } from "./cache-context.js";
import { cacheLayout, KERNEL_FILE } from "./cache-layout.js";
import { fileIdentity } from "./file-identity.js";
import { hashFileOnce } from "./hash-file.js";
import { asImageError } from "./image-error.js";
import { detectKernelFormat, type KernelFormat } from "./kernel-format.js";
import { readManifest } from "./manifest.js";
import { publishDirectory } from "./publish.js";
import { sealArtefacts } from "./seal.js";
import { withStaging } from "./staging.js";
import { unpackKernel } from "./unpack-kernel.js";
import { verifyArtefacts } from "./verification.js";

/** Kernel files that a VMM starts without unpacking. */
const DIRECT: ReadonlySet<KernelFormat | undefined> = new Set(["elf-pvh", "arm64-image"] as const);

/** A kernel file that the user brings. */
export interface CustomKernel {
  readonly path: string;
  readonly format: KernelFormat;
}

/** A file for the VMM, and something that changes with its content. */
export interface BootableKernel {
  readonly path: string;
  readonly identity: string;
}

/**
 * The user's kernel in the form that boots fastest. Where the tool that unpacks it is missing, or the kernel
 * inside has no PVH entry point, that is its own form: QEMU boots it too, only later.
 *
 * @throws {INVALID_CONFIG} naming `kernelPath` when the file is damaged.
 */
export async function provideKernel(kernel: CustomKernel, cache: CacheContext): Promise<BootableKernel> {
  if (DIRECT.has(kernel.format)) return { path: kernel.path, identity: await fileIdentity(kernel.path) };
  const digest = await hashFileOnce(kernel.path, cache.deadline);
  const target = join(cacheLayout(cache.cacheDir).kernelsDir, digest);
  const path = join(target, KERNEL_FILE);
  const manifest = await readManifest(target);
  if (manifest !== undefined) {
    await verifyArtefacts(target, manifest, cache);
    return { path, identity: digest };
  }
  const isUnpacked = await publishKernel(kernel, target, cache).catch((error) => {
    if (isSmolVMError(error, "HOST_UNSUPPORTED")) return false;
    throw kernelError(error, kernel);
  });
  return { path: isUnpacked ? path : kernel.path, identity: digest };
}

/** @returns False when the unpacked kernel cannot be booted directly. */
async function publishKernel(kernel: CustomKernel, target: string, cache: CacheContext): Promise<boolean> {
  const { cacheDir, programVersion, deadline } = cache;
  return withStaging(cacheDir, async (workDir) => {
    const unpacked = await unpackKernel(kernel.path, { workDir, deadline });
    if (!DIRECT.has(await formatOf(unpacked))) return false;
    const outDir = join(workDir, "kernel");
    await mkdir(outDir);
    await rename(unpacked, join(outDir, KERNEL_FILE));
    await sealArtefacts(outDir, { facts: { kind: "kernel" }, programVersion, deadline });
    await publishDirectory(outDir, { target });
    return true;
  });
}

async function formatOf(path: string): Promise<KernelFormat | undefined> {
  const file = await open(path, "r");
  try {
    return await detectKernelFormat(file);
  } finally {
    await file.close();
  }
}

/** What the unpacking tool or the header's check says is about the user's file; the rest is not. */
function kernelError(error: unknown, { path }: CustomKernel): SmolVMError {
  if (isSmolVMError(error, "HOST_COMMAND_FAILED") || isSmolVMError(error, "IMAGE_FAILED")) {
    return invalidConfig({ field: "kernelPath", value: path, expected: "a kernel that can be unpacked" }, error);
  }
  return asImageError(error, `unpack kernel "${path}"`);
}
