import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { expect, test } from "vitest";
import { arm64Image, bzImage, elfKernel } from "./fixtures/kernels.js";
import { ampleDeadline, scratchDirectory } from "./fixtures/scratch.js";
import { unpackKernel } from "./unpack-kernel.js";

async function unpack(file: Uint8Array): Promise<Buffer> {
  const workDir = await scratchDirectory();
  const path = join(workDir, "kernel");
  await writeFile(path, file);
  return readFile(await unpackKernel(path, { workDir, deadline: ampleDeadline() }));
}

test("finds the compressed kernel in a bzImage", async () => {
  expect((await unpack(bzImage(gzipSync(elfKernel())))).equals(elfKernel())).toBe(true);
});

test("takes a bzImage whose kernel is not compressed", async () => {
  expect((await unpack(bzImage(elfKernel()))).equals(elfKernel())).toBe(true);
});

test("unpacks a gzipped arm64 Image", async () => {
  expect((await unpack(gzipSync(arm64Image()))).equals(arm64Image())).toBe(true);
});

test("leaves a kernel alone that needs no unpacking", async () => {
  expect((await unpack(elfKernel())).equals(elfKernel())).toBe(true);
});

test.each([
  ["is no kernel", Buffer.from("hello")],
  ["is cut short", bzImage(gzipSync(elfKernel())).subarray(0, 1060)],
  ["has an unknown compression", bzImage(Buffer.from("what is this?"))],
  ["has no payload", bzImage(Buffer.alloc(0))],
])("refuses a file that %s", async (_, file) => {
  await expect(unpack(file)).rejects.toMatchObject({ code: "IMAGE_FAILED" });
});
