// sha256 of a file, in pieces so that the event loop stays responsive.

import { createHash } from "node:crypto";
import { type FileHandle, open } from "node:fs/promises";
import type { Deadline } from "../base/deadline.js";
import { waitError } from "../errors/wait-errors.js";
import { FileMemory } from "./file-memory.js";

/** One read, in bytes: about half a millisecond of hashing. */
const CHUNK_BYTES = 1024 * 1024;

const digests = new FileMemory<string>();

/** {@link hashFile}, once for a file that does not change while this process lives. */
export function hashFileOnce(path: string, deadline: Deadline): Promise<string> {
  return digests.get(path, () => hashFile(path, deadline));
}

/**
 * @param onProgress Receives the share done, 0 to 1.
 * @returns The digest in lower-case hexadecimal.
 */
export async function hashFile(
  path: string,
  deadline: Deadline,
  onProgress?: (fraction: number) => void,
): Promise<string> {
  const file = await open(path, "r");
  try {
    const { size } = await file.stat();
    const hash = createHash("sha256");
    let doneBytes = 0;
    for await (const chunk of readAhead(file)) {
      if (deadline.isAborted || deadline.hasExpired) throw waitError(`Hashing of "${path}"`, deadline);
      hash.update(chunk);
      doneBytes += chunk.length;
      onProgress?.(Math.min(1, doneBytes / Math.max(1, size)));
    }
    return hash.digest("hex");
  } finally {
    await file.close();
  }
}

/** A file's chunks; the next one is read while the one before is in use, and each is valid until then only. */
async function* readAhead(file: FileHandle): AsyncGenerator<Buffer> {
  let [spare, filling] = [Buffer.allocUnsafe(CHUNK_BYTES), Buffer.allocUnsafe(CHUNK_BYTES)];
  let offset = 0;
  let reading = file.read(filling, 0, CHUNK_BYTES, offset);
  try {
    for (;;) {
      const { bytesRead } = await reading;
      if (bytesRead === 0) return;
      offset += bytesRead;
      [spare, filling] = [filling, spare];
      reading = file.read(filling, 0, CHUNK_BYTES, offset);
      yield spare.subarray(0, bytesRead);
    }
  } finally {
    await reading.catch(() => {}); // Before anybody closes the file: its descriptor may be another's then.
  }
}
