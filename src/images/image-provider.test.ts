import { chmod, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, expect, test } from "vitest";
import { SmolVMError } from "../errors/smolvm-error.js";
import { memoryLock } from "./fixtures/memory-lock.js";
import { ampleDeadline, scratchDirectory } from "./fixtures/scratch.js";
import { buildTinyImage } from "./fixtures/tiny-image.js";
import { ImageCatalogue } from "./image-catalogue.js";
import { imagesLock } from "./image-lock.js";
import { ImageProvider, type ImageProviderOptions } from "./image-provider.js";
import type { ImageRecipe } from "./recipes.js";

const recipe: ImageRecipe = {
  ...{ name: "tiny", suite: "trixie", packages: [], leaveOut: [] },
  ...{ rootfsSizeMib: 1, bootModules: [], spareModules: [] },
};
const lockImages = imagesLock(memoryLock());
let cacheDir: string;
let builds: number;

beforeEach(async () => {
  cacheDir = await scratchDirectory();
  builds = 0;
});

function provider(overrides: Partial<ImageProviderOptions> = {}): ImageProvider {
  return new ImageProvider({
    cacheDir,
    catalogue: new ImageCatalogue(cacheDir),
    lockImages,
    mirror: undefined,
    programVersion: "1.0.0",
    buildImage: (options) => {
      builds++;
      return buildTinyImage(options);
    },
    ...overrides,
  });
}

function options() {
  return { deadline: ampleDeadline() };
}

test("many who need the same image build it once", async () => {
  const opened = await Promise.all([1, 2, 3, 4].map(() => provider().open(recipe, options())));
  expect(builds).toBe(1);
  expect(new Set(opened.map(({ digest }) => digest)).size).toBe(1);
  expect(await readdir(join(cacheDir, "staging"))).toEqual([]);
});

test("a changed recipe is built anew", async () => {
  const first = await provider().open(recipe, options());
  const second = await provider().open({ ...recipe, packages: ["vim"] }, options());
  expect(builds).toBe(2);
  expect(second.digest).not.toBe(first.digest);
});

test("force builds anew, and the name stands for the new image", async () => {
  const first = await provider().provide(recipe, options());
  const second = await provider().provide(recipe, { ...options(), force: true });
  expect(second).not.toBe(first);
  expect((await provider().open(recipe, options())).digest).toBe(second);
});

test("a failed build leaves nothing, and the next one succeeds", async () => {
  const buildImage = () => Promise.reject(new SmolVMError("IMAGE_FAILED", "Cannot build"));
  await expect(provider({ buildImage }).open(recipe, options())).rejects.toMatchObject({ code: "IMAGE_FAILED" });
  expect(await new ImageCatalogue(cacheDir).list()).toEqual([]);
  await provider().open(recipe, options());
});

test("an image whose directory is gone is built anew", async () => {
  const { rootfsPath } = await provider().open(recipe, options());
  await rm(join(rootfsPath, ".."), { recursive: true });
  await provider().open(recipe, options());
  expect(builds).toBe(2);
});

test("a changed artefact is refused, also when its manifest was changed with it", async () => {
  const { kernelPath, digest } = await provider().open(recipe, options());
  await chmod(kernelPath, 0o644);
  await writeFile(kernelPath, "evil");
  await expect(provider().open(recipe, options())).rejects.toMatchObject({ details: { path: kernelPath } });
  const manifestPath = join(kernelPath, "../manifest.json");
  await chmod(manifestPath, 0o644);
  await writeFile(manifestPath, '{"format":1,"facts":{},"artefacts":[]}');
  await expect(provider().open(recipe, options())).rejects.toMatchObject({
    code: "IMAGE_FAILED",
    details: { path: manifestPath, expected: digest },
  });
});
