// Builds one image from its recipe and publishes it under its digest.

import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { waitError } from "../errors/wait-errors.js";
import type { BuildContext } from "./build-context.js";
import { buildKernel } from "./build-kernel.js";
import { buildRootfs } from "./build-rootfs.js";
import { requireBuildTools } from "./build-tools.js";
import { cacheLayout } from "./cache-layout.js";
import { asImageError } from "./image-error.js";
import { manifestDigest } from "./manifest.js";
import { publishDirectory } from "./publish.js";
import { recipeKey } from "./recipes.js";
import { sealArtefacts } from "./seal.js";
import { withStaging } from "./staging.js";

/** What a build needs beside its recipe. */
export interface BuildImageOptions extends Omit<BuildContext, "workDir" | "outDir"> {
  readonly cacheDir: string;
  readonly programVersion: string;
}

/**
 * Builds an image; whatever happens, there is afterwards a whole one or none.
 *
 * @returns The image's digest, which is the name of its directory.
 * @throws {HOST_UNSUPPORTED} naming all programs that are missing.
 * @throws {IMAGE_FAILED} when a step fails; details hold what the program said.
 * @throws {TIMEOUT} or {ABORTED} as the deadline says.
 */
export async function buildImage(options: BuildImageOptions): Promise<string> {
  await requireBuildTools();
  try {
    return await withStaging(options.cacheDir, (staging) => buildStaged(staging, options));
  } catch (error) {
    const { recipe, deadline } = options;
    if (deadline.isAborted || deadline.hasExpired) throw waitError(`Build of image "${recipe.name}"`, deadline);
    throw asImageError(error, `build image "${recipe.name}"`);
  }
}

async function buildStaged(staging: string, options: BuildImageOptions): Promise<string> {
  const { recipe, architecture, programVersion, deadline, onProgress } = options;
  const workDir = join(staging, "work");
  const outDir = join(staging, "image");
  await mkdir(workDir);
  await mkdir(outDir);
  const context: BuildContext = { ...options, workDir, outDir };
  const kernelRelease = await buildKernel(context);
  await buildRootfs(context);

  onProgress({ step: "Recording checksums" });
  const facts = {
    name: recipe.name,
    architecture: architecture.debianName,
    suite: recipe.suite,
    kernelRelease,
    recipeKey: recipeKey(recipe, architecture),
  };
  const manifest = await sealArtefacts(outDir, { facts, programVersion, deadline });
  const digest = manifestDigest(manifest);
  await publishDirectory(outDir, {
    target: join(cacheLayout(options.cacheDir).imagesDir, digest),
    moveOldTo: join(staging, "old"),
  });
  return digest;
}
