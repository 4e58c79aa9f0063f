import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { ampleDeadline, scratchDirectory } from "./fixtures/scratch.js";
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
