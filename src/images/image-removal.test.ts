import { rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import { imageArchitecture } from "./architecture.js";
import { memoryLock } from "./fixtures/memory-lock.js";
import { ampleDeadline, scratchDirectory } from "./fixtures/scratch.js";
import { buildTinyImage } from "./fixtures/tiny-image.js";
import { produceTiny } from "./fixtures/tiny-template.js";
import { ImageCatalogue } from "./image-catalogue.js";
import { recipeFor } from "./image-name.js";
import { ImageStore } from "./image-store.js";
import { recipeKey } from "./recipes.js";
import type { Template } from "./template-store.js";

let cacheDir: string;
let store: ImageStore;
let used: string[];
const inUse = { isInUse: (path: string) => used.includes(path) };

beforeEach(async () => {
  cacheDir = join(await scratchDirectory(), "cache");
  const common = { cacheDir, withLock: memoryLock(), programVersion: "1.0.0" };
  store = new ImageStore({ ...common, agentPath: "/none" });
  used = [];
});

async function plantDebian(): Promise<string> {
  const [recipe, architecture] = [recipeFor("debian"), imageArchitecture()];
  const common = { recipe, architecture, cacheDir, mirror: undefined, programVersion: "1.0.0" };
  const digest = await buildTinyImage({ ...common, deadline: ampleDeadline(), onProgress: () => {} });
  await new ImageCatalogue(cacheDir).point("debian", { digest, recipeKey: recipeKey(recipe, architecture) });
  return digest;
}

function plantTemplate(imageDigest: string, keyText = "a template"): Promise<Template> {
  return store.templates.make(keyText, { image: "debian", imageDigest }, produceTiny(keyText), inUse);
}

async function digests(): Promise<string[]> {
  return (await store.list()).map(({ digest }) => digest);
}

async function keys(): Promise<string[]> {
  return (await store.templates.list()).map(({ key }) => key);
}

describe("image rm", () => {
  test("of an image takes its templates along, and says so", async () => {
    const digest = await plantDebian();
    const own = await plantTemplate(digest);
    const other = await plantTemplate("e".repeat(64), "of another image");
    const removed = await store.remove("debian", inUse);
    expect(removed.path).toBe(join(cacheDir, "images", digest));
    expect(removed.templates).toEqual([{ path: own.directory, freedBytes: expect.any(Number) }]);
    expect(removed.freedBytes).toBeGreaterThan(removed.templates?.[0]?.freedBytes ?? Number.NaN);
    expect(await digests()).toEqual([]);
    expect(await keys()).toEqual([other.key]);
  });

  test("is refused while a VM uses one of its templates, and removes nothing", async () => {
    const digest = await plantDebian();
    const busy = await plantTemplate(digest);
    await plantTemplate(digest, "unused");
    used = [busy.directory];
    await expect(store.remove("debian", inUse)).rejects.toMatchObject({ code: "BUSY", details: { digest } });
    expect(await digests()).toEqual([digest]);
    expect(await keys()).toHaveLength(2);
  });

  test("is refused while a VM uses a template that no longer says what it was booted from", async () => {
    const digest = await plantDebian();
    const { directory } = await plantTemplate(digest);
    await rm(join(directory, "manifest.json"));
    used = [directory];
    await expect(store.remove("debian", inUse)).rejects.toMatchObject({ code: "BUSY" });
    expect(await digests()).toEqual([digest]);
  });

  test("puts the image back when a template of it came into use meanwhile", async () => {
    const digest = await plantDebian();
    let late: Template | undefined;
    let looks = 0;
    // The second look at the image is before its removal, the third after it was moved aside.
    const isInUse = async (path: string) => {
      if (path === late?.directory) return true;
      if (path.endsWith(digest) && ++looks === 3) late = await plantTemplate(digest);
      return false;
    };
    await expect(store.remove("debian", { isInUse })).rejects.toMatchObject({ code: "BUSY" });
    expect(late).toBeDefined();
    expect(await store.inspect("debian")).toMatchObject({ digest, isCurrent: true });
  });

  test("of the beginning of a key removes that template only", async () => {
    const digest = await plantDebian();
    const { key, directory } = await plantTemplate(digest);
    const other = await plantTemplate(digest, "other");
    used = [directory];
    await expect(store.remove(key.slice(0, 12), inUse)).rejects.toMatchObject({ code: "BUSY", details: { key } });
    used = [];
    expect(await store.remove(key.slice(0, 12), inUse)).toMatchObject({ path: directory });
    expect(await digests()).toEqual([digest]);
    expect(await keys()).toEqual([other.key]);
  });

  test("does not choose among a digest and a key, and finds nothing by few characters", async () => {
    const digest = await plantDebian();
    const { key, directory } = await plantTemplate(digest);
    const twin = join(cacheDir, "templates", digest.slice(0, 8) + key.slice(8));
    await rename(directory, twin);
    const removing = store.remove(digest.slice(0, 8), inUse);
    await expect(removing).rejects.toMatchObject({ code: "INVALID_CONFIG", details: { field: "image" } });
    await expect(store.remove(digest.slice(0, 3), inUse)).rejects.toMatchObject({ code: "IMAGE_NOT_FOUND" });
    expect(await keys()).toHaveLength(1);
  });
});

describe("image prune", () => {
  test("removes templates that no VM uses, and no others", async () => {
    const digest = await plantDebian();
    const busy = await plantTemplate(digest);
    const idle = await plantTemplate(digest, "idle");
    used = [busy.directory];
    const { removed, freedBytes } = await store.prune(inUse);
    expect(removed.map(({ path }) => path)).toEqual([idle.directory]);
    expect(freedBytes).toBeGreaterThan(0);
    expect(await keys()).toEqual([busy.key]);
    expect(await digests()).toEqual([digest]);
  });

  test("keeps an image while a VM uses a template of it", async () => {
    const old = await plantDebian();
    const { directory } = await plantTemplate(old);
    const current = await plantDebian();
    used = [directory];
    expect((await store.prune({ ...inUse, all: true })).removed.map(({ path }) => path)).toEqual([
      join(cacheDir, "images", current),
    ]);
    expect(await digests()).toEqual([old]);
    used = [];
    await store.prune(inUse);
    expect([...(await digests()), ...(await keys())]).toEqual([]);
  });
});
