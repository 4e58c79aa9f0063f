import { createHash } from "node:crypto";
import { chmod, mkdir, rename, rm, stat, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, expect, test } from "vitest";
import type { ProgressEvent } from "../base/progress.js";
import { ampleDeadline, scratchDirectory } from "./fixtures/scratch.js";
import type { Manifest } from "./manifest.js";
import { sealArtefacts } from "./seal.js";
import { verifyArtefacts } from "./verification.js";

let directory: string;
let path: string;
let manifest: Manifest;

beforeEach(async () => {
  directory = join(await scratchDirectory(), "image");
  path = join(directory, "rootfs.ext4");
  await mkdir(directory);
  await writeFile(path, "good content");
  manifest = await sealArtefacts(directory, { facts: {}, programVersion: "1.0.0", deadline: ampleDeadline() });
});

/** @returns How many artefacts were read in full. */
async function verify(programVersion = "1.0.0"): Promise<number> {
  const events: ProgressEvent[] = [];
  const onProgress = (event: ProgressEvent) => events.push(event);
  await verifyArtefacts(directory, manifest, { programVersion, deadline: ampleDeadline(), onProgress });
  return events.filter(({ fraction }) => fraction === 1).length;
}

async function overwrite(content: string): Promise<void> {
  const { atime, mtime } = await stat(path);
  await chmod(path, 0o644);
  await writeFile(path, content);
  await utimes(path, atime, mtime);
}

test("whoever sealed the artefacts need not read them again", async () => {
  expect(await verify()).toBe(0);
});

test("another program version reads them in full, once", async () => {
  expect(await verify("2.0.0")).toBe(1);
  expect(await verify("2.0.0")).toBe(0);
});

test("a file that was touched is read in full, once", async () => {
  await utimes(path, new Date(), new Date());
  expect(await verify()).toBe(1);
  expect(await verify()).toBe(0);
});

test("an equal copy in its place is read in full", async () => {
  await writeFile(`${path}.new`, "good content");
  await rename(`${path}.new`, path);
  expect(await verify()).toBe(1);
});

test("a damaged stamp means that everything is read", async () => {
  await writeFile(join(directory, "verified-1.0.0.json"), "{");
  expect(await verify()).toBe(1);
});

test("changed content of the same size and time is found, every time", async () => {
  await overwrite("evil content");
  const expected = manifest.artefacts[0]?.sha256;
  const actual = createHash("sha256").update("evil content").digest("hex");
  for (let attempt = 0; attempt < 2; attempt++) {
    await expect(verify()).rejects.toMatchObject({ code: "IMAGE_FAILED", details: { path, expected, actual } });
  }
});

test("another size is found without reading", async () => {
  await overwrite("longer than before");
  await expect(verify()).rejects.toMatchObject({ details: { path, property: "size in bytes", expected: 12 } });
});

test("a missing file is named", async () => {
  await rm(path);
  await expect(verify()).rejects.toMatchObject({ code: "IMAGE_FAILED", details: { path, reason: "ENOENT" } });
});
