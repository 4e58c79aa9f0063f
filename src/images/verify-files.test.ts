import { chmod, rm, truncate, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { expect, test } from "vitest";
import { memoryLock } from "./fixtures/memory-lock.js";
import { ampleDeadline, scratchDirectory } from "./fixtures/scratch.js";
import { produceTiny } from "./fixtures/tiny-template.js";
import { TemplateStore } from "./template-store.js";
import { verifyFiles } from "./verify-files.js";

async function verify(path: string): Promise<void> {
  const cacheDir = join(await scratchDirectory(), "cache");
  await verifyFiles([path], { cacheDir, programVersion: "1.0.0", deadline: ampleDeadline() });
}

function qcow2({ backingOffset = 0n, features = 0n } = {}): Buffer {
  const head = Buffer.alloc(512);
  head.write("QFI\xfb", 0, "latin1");
  head.writeUInt32BE(3, 4);
  head.writeBigUInt64BE(backingOffset, 8);
  head.writeBigUInt64BE(1n << 20n, 24);
  head.writeBigUInt64BE(features, 72);
  return head;
}

test("a user's qcow2 disk that came to name other files is refused", async () => {
  const path = join(await scratchDirectory(), "disk.qcow2");
  await writeFile(path, qcow2());
  await verify(path);
  for (const changed of [qcow2({ backingOffset: 512n }), qcow2({ features: 4n }), Buffer.from("no qcow2")]) {
    await writeFile(path, changed);
    await expect(verify(path)).rejects.toMatchObject({ code: "IMAGE_FAILED", details: { path } });
  }
});

test("a user's other files are theirs", async () => {
  const path = join(await scratchDirectory(), "disk.raw");
  await verify(path);
  await writeFile(path, qcow2({ backingOffset: 512n }));
  await verify(path);
});

test("of a template a VM needs the disk that its own is a layer over, and nothing else", async () => {
  const cacheDir = join(await scratchDirectory(), "cache");
  const common = { cacheDir, programVersion: "1.0.0" };
  const templates = new TemplateStore({ ...common, withLock: memoryLock() });
  const { diskPath, memoryPath } = await templates.make("key", {}, produceTiny(), { isInUse: () => false });
  const check = (...paths: string[]) => verifyFiles(paths, { ...common, deadline: ampleDeadline() });
  await check(diskPath, memoryPath);
  await truncate(memoryPath, 0);
  await check(diskPath);
  await expect(check(diskPath, memoryPath)).rejects.toMatchObject({
    code: "IMAGE_FAILED",
    details: { path: memoryPath },
  });
  const unknown = join(dirname(diskPath), "rootfs.ext4");
  await expect(check(unknown)).rejects.toMatchObject({ code: "IMAGE_FAILED", details: { path: unknown } });
  await chmod(diskPath, 0o644);
  await writeFile(diskPath, "evil");
  await expect(check(diskPath)).rejects.toMatchObject({ code: "IMAGE_FAILED", details: { path: diskPath } });
  await rm(dirname(diskPath), { recursive: true });
  await expect(check(diskPath)).rejects.toMatchObject({ code: "IMAGE_FAILED" });
});
