import { chmod, truncate, writeFile } from "node:fs/promises";
import { arch } from "node:os";
import { join } from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import { runProgram } from "../host/process.js";
import { checkBootRequest } from "./boot-request.js";
import { inspectCustomFiles } from "./custom-files.js";
import { arm64Image, elfKernel } from "./fixtures/kernels.js";
import { scratchDirectory } from "./fixtures/scratch.js";

const isRoot = process.getuid?.() === 0;
if (isRoot) console.log("gate: ordinary-user: root may read everything");

const fields = ["kernelPath", "initrdPath", "rootfsPath"] as const;
const kernel = arch() === "arm64" ? arm64Image() : elfKernel();
let directory: string;

beforeEach(async () => {
  directory = await scratchDirectory();
});

async function file(name: string, content: string | Uint8Array): Promise<string> {
  const path = join(directory, name);
  await writeFile(path, content);
  return path;
}

function qcow2Header({ backingOffset = 0n, features = 0n, sizeBytes = 1n << 20n } = {}): Buffer {
  const head = Buffer.alloc(512);
  head.write("QFI\xfb", 0, "latin1");
  head.writeUInt32BE(3, 4);
  head.writeBigUInt64BE(backingOffset, 8);
  head.writeBigUInt64BE(sizeBytes, 24);
  head.writeBigUInt64BE(features, 72);
  return head;
}

describe.each(fields)("%s", (field) => {
  test("that does not exist", async () => {
    const inspecting = inspectCustomFiles({ [field]: join(directory, "none") });
    await expect(inspecting).rejects.toMatchObject({
      code: "INVALID_CONFIG",
      details: { field, expected: "a file that exists" },
    });
  });

  test("that is a directory", async () => {
    const inspecting = inspectCustomFiles({ [field]: directory });
    await expect(inspecting).rejects.toMatchObject({ code: "INVALID_CONFIG", details: { field } });
    await expect(inspecting).rejects.toThrow("this is a directory");
  });

  test("that is a pipe nobody writes to", async () => {
    const path = join(directory, "pipe");
    await runProgram(["mkfifo", path]);
    await expect(inspectCustomFiles({ [field]: path })).rejects.toMatchObject({ code: "INVALID_CONFIG" });
  });

  test("that is empty", async () => {
    const path = await file("empty", "");
    await expect(inspectCustomFiles({ [field]: path })).rejects.toMatchObject({ details: { field } });
  });

  test("that holds a NUL character", async () => {
    await expect(inspectCustomFiles({ [field]: "a\0b" })).rejects.toMatchObject({ details: { field } });
  });

  test.skipIf(isRoot)("that may not be read", async () => {
    const path = await file("secret", "x".repeat(512));
    await chmod(path, 0);
    const expected = "a file that you may read";
    await expect(inspectCustomFiles({ [field]: path })).rejects.toMatchObject({ details: { field, expected } });
  });
});

test("takes good files and gives absolute paths, even with commas in them", async () => {
  const found = await inspectCustomFiles({
    kernelPath: await file("vmlinux", kernel),
    initrdPath: await file("my,initrd", "x"),
    rootfsPath: await file("disk.img", Buffer.alloc(1024)),
  });
  expect(found.kernel?.path).toBe(join(directory, "vmlinux"));
  expect(found.initrd).toEqual({ path: join(directory, "my,initrd") });
  expect(found.rootfs).toEqual({ path: join(directory, "disk.img"), format: "raw", sizeBytes: 1024 });
});

test("refuses a kernel that is none, or that no VMM can start", async () => {
  for (const content of ["#!/bin/sh\n", elfKernel({ hasPvh: false })]) {
    const inspecting = inspectCustomFiles({ kernelPath: await file("kernel", content) });
    await expect(inspecting).rejects.toMatchObject({ code: "INVALID_CONFIG", details: { field: "kernelPath" } });
  }
});

test("refuses a raw disk that does not end at a sector", async () => {
  const inspecting = inspectCustomFiles({ rootfsPath: await file("disk.img", Buffer.alloc(513)) });
  await expect(inspecting).rejects.toMatchObject({ code: "INVALID_CONFIG", details: { field: "rootfsPath" } });
});

test("goes by the name, so that a guest cannot turn its raw disk into a qcow2", async () => {
  const path = await file("disk.img", qcow2Header({ backingOffset: 104n }));
  expect((await inspectCustomFiles({ rootfsPath: path })).rootfs?.format).toBe("raw");
});

test("reads the size of a qcow2 disk", async () => {
  const path = await file("disk.qcow2", qcow2Header());
  expect((await inspectCustomFiles({ rootfsPath: path })).rootfs).toEqual({
    path,
    format: "qcow2",
    sizeBytes: 1 << 20,
  });
});

test.each([
  ["is none", Buffer.alloc(512)],
  ["has a backing file", qcow2Header({ backingOffset: 104n })],
  ["keeps its data in another file", qcow2Header({ features: 4n })],
  ["has no size", qcow2Header({ sizeBytes: 0n })],
])("refuses a qcow2 disk that %s", async (_, content) => {
  const inspecting = inspectCustomFiles({ rootfsPath: await file("disk.qcow2", content) });
  await expect(inspecting).rejects.toMatchObject({ code: "INVALID_CONFIG", details: { field: "rootfsPath" } });
});

describe("diskSizeMib", () => {
  test("smaller than the named image", async () => {
    const checking = checkBootRequest({ image: "debian", diskSizeMib: 2047 });
    await expect(checking).rejects.toMatchObject({ code: "INVALID_CONFIG", details: { field: "diskSizeMib" } });
  });

  test("smaller than the user's disk", async () => {
    const rootfsPath = await file("disk.img", "");
    await truncate(rootfsPath, 3 << 20);
    const checking = checkBootRequest({ image: "debian", rootfsPath, diskSizeMib: 2 });
    await expect(checking).rejects.toMatchObject({ code: "INVALID_CONFIG", details: { field: "diskSizeMib" } });
    await expect(checkBootRequest({ image: "debian", rootfsPath, diskSizeMib: 3 })).resolves.toBeDefined();
  });
});

test("needs no image when kernel and disk are the user's", async () => {
  const kernelPath = await file("vmlinux", kernel);
  const rootfsPath = await file("disk.img", Buffer.alloc(512));
  expect((await checkBootRequest({ image: "debian", kernelPath, rootfsPath })).recipe).toBeUndefined();
  expect((await checkBootRequest({ image: "debian", kernelPath })).recipe?.name).toBe("debian");
});

test.each(["", "-force", "a,b", "../x", "A", "a b", "x".repeat(65), "a\n"])("refuses %j as an image", async (image) => {
  const checking = checkBootRequest({ image });
  await expect(checking).rejects.toMatchObject({ code: "INVALID_CONFIG", details: { field: "image" } });
});

test("says which images there are", async () => {
  const checking = checkBootRequest({ image: "ubuntu" });
  await expect(checking).rejects.toMatchObject({ code: "IMAGE_NOT_FOUND", details: { known: ["debian"] } });
});
