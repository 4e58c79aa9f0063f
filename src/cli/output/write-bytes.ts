// Output byte for byte, no faster than its reader takes it.

import type { Writable } from "node:stream";

/**
 * Writes data.
 *
 * @param signal Once it has fired nobody waits for the reader any more.
 * @returns A promise when the stream is full; it resolves when there is room, or when there will never be.
 */
export function writeBytes(stream: Writable, data: Uint8Array, signal: AbortSignal): Promise<void> | undefined {
  if (stream.destroyed || signal.aborted || stream.write(data)) return undefined;
  return new Promise((resolve) => {
    const done = () => {
      for (const event of ENDINGS) stream.off(event, done);
      signal.removeEventListener("abort", done);
      resolve();
    };
    for (const event of ENDINGS) stream.on(event, done);
    signal.addEventListener("abort", done);
  });
}

const ENDINGS = ["drain", "close", "error"] as const;

/** Waits until everything was handed on, at most `limitMs` where that is given. */
export async function flush(stream: Writable, limitMs?: number): Promise<void> {
  if (stream.destroyed) return;
  const written = new Promise<void>((resolve) => {
    stream.write("", () => resolve());
  });
  if (limitMs === undefined) return written;
  const expired = new Promise<void>((resolve) => {
    setTimeout(resolve, limitMs);
  });
  return Promise.race([written, expired]);
}
