// Sends the content of a large file, reading ahead of what is being sent and leaving holes out.

import type { FileHandle } from "node:fs/promises";
import { hostFile } from "./host-failure.js";
import { CONTENT_STEP_BYTES, type RecordOutput } from "./record-output.js";
import type { LargeFile } from "./tree-source.js";

/** Holes are found in steps of a file system's block, in bytes. */
const BLOCK_BYTES = 4096;
const ZERO_BLOCK = Buffer.alloc(BLOCK_BYTES);

interface ReadPiece {
  readonly offset: number;
  readonly data: Buffer;
}

/**
 * @param onContent Told of each piece.
 * @param sizeBytes As it was said: what the file grows is cut off; what it shrinks becomes a hole.
 */
export async function sendLargeFile(
  output: RecordOutput,
  file: LargeFile,
  sizeBytes: number,
  onContent: (sizeBytes: number) => void,
): Promise<void> {
  // Two buffers: one is read into while the other is sent.
  const buffers = [Buffer.allocUnsafe(CONTENT_STEP_BYTES), Buffer.allocUnsafe(CONTENT_STEP_BYTES)] as const;
  const read = (offset: number, index: number) =>
    hostFile("Read", file.path, () => fill(file.handle, buffers[index & 1] as Buffer, offset, sizeBytes));
  let next = read(0, 0);
  try {
    for (let index = 1; output.isOpen; index += 1) {
      const { offset, data } = await next;
      if (data.length === 0) return;
      next = read(offset + data.length, index);
      next.catch(() => {}); // Awaited when what came before is sent.
      for (const run of file.isSparse ? dataRuns(data) : [{ from: 0, to: data.length }]) {
        await output.content(offset + run.from, data.subarray(run.from, run.to));
        onContent(run.to - run.from);
      }
      await output.flush();
    }
  } finally {
    await next.catch(() => {}); // It must not read into a file that was closed.
  }
}

async function fill(handle: FileHandle, buffer: Buffer, offset: number, sizeBytes: number): Promise<ReadPiece> {
  const wantedBytes = Math.min(buffer.length, sizeBytes - offset);
  let readBytes = 0;
  while (readBytes < wantedBytes) {
    const { bytesRead } = await handle.read(buffer, readBytes, wantedBytes - readBytes, offset + readBytes);
    if (bytesRead === 0) break;
    readBytes += bytesRead;
  }
  return { offset, data: buffer.subarray(0, readBytes) };
}

/** The parts of some data that are not all zeros, in whole blocks. */
export function* dataRuns(data: Buffer): Generator<{ readonly from: number; readonly to: number }> {
  let from: number | undefined;
  for (let at = 0; at < data.length; at += BLOCK_BYTES) {
    const block = data.subarray(at, at + BLOCK_BYTES);
    const isZero = block.equals(block.length === BLOCK_BYTES ? ZERO_BLOCK : ZERO_BLOCK.subarray(0, block.length));
    if (isZero && from !== undefined) {
      yield { from, to: at };
      from = undefined;
    } else if (!isZero) {
      from ??= at;
    }
  }
  if (from !== undefined) yield { from, to: data.length };
}
