import { createHash } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { Deadline } from "../base/deadline.js";
import { ampleDeadline, scratchDirectory } from "./fixtures/scratch.js";
import { hashFile } from "./hash-file.js";

const MIB_BYTES = 1024 * 1024;

/** Bytes that differ from each chunk to the next. */
function bytes(sizeBytes: number): Buffer {
  const content = Buffer.alloc(sizeBytes);
  for (let at = 0; at < sizeBytes; at += 4096) content.writeUInt32LE(at + 1, Math.min(at, Math.max(0, sizeBytes - 4)));
  return content;
}

test.each([0, 4, MIB_BYTES - 1, MIB_BYTES, MIB_BYTES + 4, 5 * MIB_BYTES])(
  "is that of all %i bytes",
  async (sizeBytes) => {
    const path = join(await scratchDirectory(), "file");
    const content = sizeBytes === 0 ? Buffer.alloc(0) : bytes(sizeBytes);
    await writeFile(path, content);
    expect(await hashFile(path, ampleDeadline())).toBe(createHash("sha256").update(content).digest("hex"));
  },
);

test("ends in the middle when it is aborted", async () => {
  const path = join(await scratchDirectory(), "file");
  await writeFile(path, bytes(4 * MIB_BYTES));
  const abort = new AbortController();
  const shares: number[] = [];
  const hashing = hashFile(path, Deadline.after(60_000, abort.signal), (fraction) => {
    shares.push(fraction);
    if (fraction === 0.5) abort.abort();
  });
  await expect(hashing).rejects.toMatchObject({ code: "ABORTED" });
  expect(shares).toEqual([0.25, 0.5]);
});
