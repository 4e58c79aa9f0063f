import { chmod, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { arch } from "node:os";
import { dirname, join } from "node:path";
import { gzipSync } from "node:zlib";
import { beforeEach, describe, expect, test } from "vitest";
import { imageArchitecture } from "./architecture.js";
import { arm64Image, bzImage, elfKernel } from "./fixtures/kernels.js";
import { memoryLock } from "./fixtures/memory-lock.js";
import { ampleDeadline, scratchDirectory } from "./fixtures/scratch.js";
import { buildTinyImage, TINY_ROOTFS_BYTES } from "./fixtures/tiny-image.js";
import { ImageCatalogue } from "./image-catalogue.js";
import { recipeFor } from "./image-name.js";
import { ImageStore } from "./image-store.js";
import { recipeKey } from "./recipes.js";

const unused = { isInUse: () => false };
let root: string;
let cacheDir: string;
let store: ImageStore;

beforeEach(async () => {
  root = await scratchDirectory();
  cacheDir = join(root, "cache");
  const agentPath = join(root, "agent");
  await writeFile(agentPath, "I am the agent");
  store = new ImageStore({ cacheDir, agentPath, withLock: memoryLock(), programVersion: "1.0.0" });
});

/** Puts a tiny image where the store looks for `debian`. */
async function plantDebian(): Promise<string> {
  const [recipe, architecture] = [recipeFor("debian"), imageArchitecture()];
  const common = { recipe, architecture, cacheDir, mirror: undefined, programVersion: "1.0.0" };
  const digest = await buildTinyImage({ ...common, deadline: ampleDeadline(), onProgress: () => {} });
  await new ImageCatalogue(cacheDir).point("debian", { digest, recipeKey: recipeKey(recipe, architecture) });
  return digest;
}

test("gives an image with an initramfs of its modules and the agent", async () => {
  const digest = await plantDebian();
  const image = await store.resolve("debian");
  expect(image).toMatchObject({ name: "debian", digest, kernelRelease: "6.12-tiny", rootfsSizeBytes: 4096 });
  expect(image.artefacts.map(({ name }) => name)).toEqual(["modules.cpio", "rootfs.ext4", "vmlinux"]);
  const initramfs = await readFile(image.initrdPath, "latin1");
  expect(initramfs).toMatch(/^modules .*init\0.*I am the agent.*TRAILER!!!/s);
  expect((await store.resolve("debian")).initrdPath).toBe(image.initrdPath);
});

test("another agent gives another initramfs", async () => {
  await plantDebian();
  const before = await store.resolve("debian");
  await writeFile(join(root, "agent"), "I am better");
  expect((await store.resolve("debian")).initrdPath).not.toBe(before.initrdPath);
});

test("an initramfs with another agent is renewed with this one's in its place; one with this one's stays", async () => {
  await plantDebian();
  const { initrdPath } = await store.resolve("debian");
  expect(await store.renew(initrdPath)).toBe(initrdPath);
  await writeFile(join(root, "agent"), "I am better");
  const renewed = await store.renew(initrdPath);
  expect(renewed).not.toBe(initrdPath);
  const content = await readFile(renewed, "latin1");
  expect(content).toMatch(/^modules .*I am better.*TRAILER!!!/s);
  expect(content).not.toContain("I am the agent");
  expect(await readFile((await store.resolve("debian")).initrdPath, "latin1")).toBe(content);
  expect(await store.renew(renewed)).toBe(renewed);
  expect(await store.renew(initrdPath)).toBe(renewed);
});

/** Renews ten times, with two agents in turn. @returns The sizes, that of the first one first, and how many there are then. */
async function renewInTurn(first: string) {
  let path = first;
  const sizes = [(await readFile(path)).length];
  for (let turn = 0; turn < 10; turn++) {
    await writeFile(join(root, "agent"), turn % 2 === 0 ? "I am the other" : "I am the agent");
    path = await store.renew(path);
    sizes.push((await readFile(path)).length);
  }
  return { sizes, count: (await readdir(dirname(dirname(first)))).length };
}

test("an initramfs that two agents renew in turn does not grow, and there are no more of them", async () => {
  await plantDebian();
  const { initrdPath } = await store.resolve("debian");
  const { sizes, count } = await renewInTurn(initrdPath);
  expect(sizes).toEqual(Array(11).fill(sizes[0]));
  expect(count).toBe(3);
});

test("one that does not tell where its agent begins grows once", async () => {
  await plantDebian();
  const { initrdPath } = await store.resolve("debian");
  const path = join(dirname(initrdPath), "manifest.json");
  const manifest = await readFile(path, "utf8");
  await rm(path);
  await writeFile(path, manifest.replace(/,\s*"ownPartAt": "\d+"/, ""));
  expect(await readFile(path, "utf8")).not.toBe(manifest);
  const { sizes, count } = await renewInTurn(initrdPath);
  expect(sizes.slice(1)).toEqual(Array(10).fill(sizes[1]));
  expect(count).toBe(3);
});

test("an initramfs that is gone or was changed is not renewed", async () => {
  await plantDebian();
  const { initrdPath } = await store.resolve("debian");
  await writeFile(join(root, "agent"), "I am better");
  await chmod(initrdPath, 0o644);
  await writeFile(initrdPath, "evil");
  const refused = { code: "IMAGE_FAILED", details: { path: initrdPath } };
  await expect(store.renew(initrdPath)).rejects.toMatchObject(refused);
  const gone = join(cacheDir, "initramfs", "gone", "initramfs.cpio");
  await expect(store.renew(gone)).rejects.toMatchObject({ code: "IMAGE_FAILED" });
});

test("a changed initramfs is refused", async () => {
  await plantDebian();
  const { initrdPath } = await store.resolve("debian");
  await chmod(initrdPath, 0o644);
  await writeFile(initrdPath, "evil");
  await expect(store.resolve("debian")).rejects.toMatchObject({ code: "IMAGE_FAILED", details: { path: initrdPath } });
});

test("a missing agent is named", async () => {
  await plantDebian();
  const agentPath = join(root, "none");
  const broken = new ImageStore({ cacheDir, agentPath, withLock: memoryLock(), programVersion: "1.0.0" });
  await expect(broken.resolve("debian")).rejects.toThrow(agentPath);
});

test.each(["-x", "trixie main", "ftp://x/", "deb http://x trixie main"])("refuses the mirror %j", (mirror) => {
  const options = { cacheDir, agentPath: "/a", withLock: memoryLock(), programVersion: "1", mirror };
  expect(() => new ImageStore(options)).toThrow(expect.objectContaining({ code: "INVALID_CONFIG" }));
});

describe("with files of the user's own", () => {
  const kernel = arch() === "arm64" ? arm64Image() : elfKernel();
  const packed = arch() === "arm64" ? gzipSync(arm64Image()) : bzImage(gzipSync(elfKernel()));

  async function file(name: string, content: string | Uint8Array): Promise<string> {
    const path = join(root, name);
    await writeFile(path, content);
    return path;
  }

  test("kernel and disk: no image is needed, and the initramfs holds the agent alone", async () => {
    const kernelPath = await file("vmlinux", kernel);
    const rootfsPath = await file("disk.img", Buffer.alloc(512));
    const boot = await store.resolveBoot({ image: "debian", kernelPath, rootfsPath });
    expect(boot).toMatchObject({ kernelPath, rootfsPath, rootfsFormat: "raw", rootfsSizeBytes: 512, image: undefined });
    expect(await readFile(boot.initrdPath, "latin1")).not.toContain("modules");
  });

  test("a packed kernel is unpacked once", async () => {
    const digest = await plantDebian();
    const request = { image: "debian", kernelPath: await file("vmlinuz", packed) };
    const boot = await store.resolveBoot(request);
    expect((await readFile(boot.kernelPath)).equals(kernel)).toBe(true);
    expect(boot).toMatchObject({ rootfsSizeBytes: TINY_ROOTFS_BYTES, image: { name: "debian", digest } });
    expect(await store.resolveBoot(request)).toEqual(boot);
  });

  test("a damaged kernel is the kernelPath's fault and leaves nothing", async () => {
    await plantDebian();
    const kernelPath = await file("vmlinuz", packed.subarray(0, packed.length - 50));
    const resolving = store.resolveBoot({ image: "debian", kernelPath });
    await expect(resolving).rejects.toMatchObject({ code: "INVALID_CONFIG", details: { field: "kernelPath" } });
    expect(await readdir(join(cacheDir, "staging"))).toEqual([]);
  });

  test("an initrd comes first; the image's modules follow only for the image's kernel", async () => {
    await plantDebian();
    const initrdPath = await file("initrd", "user");
    const kernelPath = await file("vmlinux", kernel);
    const ours = await store.resolveBoot({ image: "debian", initrdPath });
    expect(await readFile(ours.initrdPath, "latin1")).toMatch(/^usermodules /);
    const theirs = await store.resolveBoot({ image: "debian", initrdPath, kernelPath });
    expect(await readFile(theirs.initrdPath, "latin1")).toMatch(/^user070701/);
  });

  test("the identity changes with the content of each file", async () => {
    const request = {
      image: "debian",
      kernelPath: await file("k", kernel),
      rootfsPath: await file("d", Buffer.alloc(512)),
    };
    const identities = [await store.resolveBoot(request)];
    await file("d", Buffer.alloc(1024));
    identities.push(await store.resolveBoot(request));
    await file("k", Buffer.concat([kernel, Buffer.alloc(4)]));
    identities.push(await store.resolveBoot(request));
    await file("agent", "another agent");
    identities.push(await store.resolveBoot(request));
    expect(new Set(identities.map(({ identity }) => identity)).size).toBe(4);
  });

  test("bad input makes no file", async () => {
    const kernelPath = join(root, "none");
    await expect(store.resolveBoot({ image: "debian", kernelPath })).rejects.toMatchObject({ code: "INVALID_CONFIG" });
    await expect(readdir(cacheDir)).rejects.toMatchObject({ code: "ENOENT" });
  });
});

describe("finding and removing", () => {
  test("by name, digest and the start of a digest", async () => {
    const digest = await plantDebian();
    expect((await store.list()).map((image) => image.digest)).toEqual([digest]);
    for (const text of ["debian", digest, digest.slice(0, 12)]) {
      expect(await store.inspect(text)).toMatchObject({ name: "debian", digest, isCurrent: true });
    }
  });

  test("what is not there, and what cannot be a name", async () => {
    await expect(store.inspect("debian")).rejects.toMatchObject({ code: "IMAGE_NOT_FOUND" });
    await expect(store.inspect("--all")).rejects.toMatchObject({ code: "INVALID_CONFIG", details: { field: "image" } });
  });

  test("an image in use stays", async () => {
    const digest = await plantDebian();
    const isInUse = (directory: string) => directory.endsWith(digest);
    await expect(store.remove("debian", { isInUse })).rejects.toMatchObject({ code: "BUSY" });
    expect(await store.list()).toHaveLength(1);
    expect((await store.remove("debian", unused)).freedBytes).toBeGreaterThan(0);
    await expect(store.inspect(digest)).rejects.toMatchObject({ code: "IMAGE_NOT_FOUND" });
  });

  test("an image that came into use while it was removed is put back", async () => {
    await plantDebian();
    let looks = 0;
    await expect(store.remove("debian", { isInUse: () => looks++ > 0 })).rejects.toMatchObject({ code: "BUSY" });
    expect(await store.inspect("debian")).toMatchObject({ isCurrent: true });
  });

  test("prune removes superseded images, unused initramfs and dead builders' staging", async () => {
    const old = await plantDebian();
    const current = await plantDebian();
    const { initrdPath } = await store.resolve("debian");
    await mkdir(join(cacheDir, "staging/1-dead-1"), { recursive: true });
    const { removed, freedBytes } = await store.prune(unused);
    expect(removed.map(({ path }) => path)).toEqual([join(cacheDir, "images", old), dirname(initrdPath)]);
    expect(freedBytes).toBeGreaterThan(0);
    expect((await store.list()).map(({ digest }) => digest)).toEqual([current]);
    expect(await readdir(join(cacheDir, "staging"))).toEqual([]);
    await store.prune({ ...unused, all: true });
    expect(await store.list()).toEqual([]);
  });
});
