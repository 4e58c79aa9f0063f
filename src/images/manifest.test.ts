import { createHash } from "node:crypto";
import { mkdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { ampleDeadline, scratchDirectory } from "./fixtures/scratch.js";
import { type Manifest, manifestDigest, readManifest } from "./manifest.js";
import { publishDirectory } from "./publish.js";
import { sealArtefacts } from "./seal.js";

const one = { name: "a", sizeBytes: 1, sha256: "0".repeat(64) };
const two = { name: "b", sizeBytes: 2, sha256: "1".repeat(64) };

async function sealed(root: string, content: string) {
  const directory = join(root, content);
  await mkdir(directory);
  await writeFile(join(directory, "rootfs.ext4"), content);
  const options = { facts: { name: "tiny" }, programVersion: "1.0.0", deadline: ampleDeadline() };
  return { directory, manifest: await sealArtefacts(directory, options) };
}

test("the digest does not depend on order", () => {
  const a: Manifest = { format: 1, facts: { x: "1", y: "2" }, artefacts: [one, two] };
  const b: Manifest = { format: 1, facts: { y: "2", x: "1" }, artefacts: [two, one] };
  expect(manifestDigest(a)).toBe(manifestDigest(b));
});

test("the digest depends on every artefact and fact", () => {
  const base: Manifest = { format: 1, facts: {}, artefacts: [one] };
  const others: Manifest[] = [
    { ...base, artefacts: [two] },
    { ...base, artefacts: [{ ...one, sizeBytes: 3 }] },
    { ...base, facts: { name: "x" } },
  ];
  expect(new Set([base, ...others].map(manifestDigest)).size).toBe(4);
});

test("sealing records size and sha256, and the manifest's own sha256 is the digest", async () => {
  const { directory, manifest } = await sealed(await scratchDirectory(), "hello");
  expect(manifest.artefacts).toEqual([
    { name: "rootfs.ext4", sizeBytes: 5, sha256: createHash("sha256").update("hello").digest("hex") },
  ]);
  expect((await stat(join(directory, "rootfs.ext4"))).mode & 0o777).toBe(0o444);
  const text = await readFile(join(directory, "manifest.json"));
  expect(createHash("sha256").update(text).digest("hex")).toBe(manifestDigest(manifest));
  expect(await readManifest(directory)).toEqual(manifest);
});

test.each(["{", '{"format":2}', '{"format":1,"facts":{},"artefacts":[{"name":"../x","sizeBytes":1,"sha256":"0"}]}'])(
  "refuses the manifest %s",
  async (text) => {
    const directory = await scratchDirectory();
    await writeFile(join(directory, "manifest.json"), text);
    await expect(readManifest(directory)).rejects.toMatchObject({ code: "IMAGE_FAILED" });
  },
);

test("of two who publish at one place the first wins, whole", async () => {
  const root = await scratchDirectory();
  const [first, second] = [await sealed(root, "first"), await sealed(root, "second")];
  const target = join(root, "images/x");
  expect(await publishDirectory(first.directory, { target })).toBe(true);
  expect(await publishDirectory(second.directory, { target })).toBe(false);
  expect(await readManifest(target)).toEqual(first.manifest);
  expect(await publishDirectory(second.directory, { target, moveOldTo: join(root, "old") })).toBe(true);
  expect(await readManifest(target)).toEqual(second.manifest);
});
