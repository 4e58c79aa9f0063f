// sha256 of a file, in pieces so that the event loop stays responsive.

import { createHash } from "node:crypto";
import { open } from "node:fs/promises";
import type { Deadline } from "../base/deadline.js";
import { waitError } from "../errors/wait-errors.js";

/** One read, in bytes: about half a millisecond of hashing. */
const CHUNK_BYTES = 1024 * 1024;

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
    const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
    for (let doneBytes = 0; ; ) {
      if (deadline.isAborted || deadline.hasExpired) throw waitError(`Hashing of "${path}"`, deadline);
      const { bytesRead } = await file.read(chunk, 0, CHUNK_BYTES, doneBytes);
      if (bytesRead === 0) return hash.digest("hex");
      hash.update(chunk.subarray(0, bytesRead));
      doneBytes += bytesRead;
      onProgress?.(Math.min(1, doneBytes / Math.max(1, size)));
    }
  } finally {
    await file.close();
  }
}
