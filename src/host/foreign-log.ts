// Logs of children, in directories that belong to the children's users. This program may have more rights than those: what
// they may have put in a log's place, a link or a pipe, is neither followed nor waited for.

import { constants, openSync } from "node:fs";
import { open } from "node:fs/promises";

const LOG_ONLY_FLAGS = constants.O_NOFOLLOW | constants.O_NONBLOCK;
/** What an error keeps of a log, in bytes. */
const LOG_TAIL_BYTES = 4_096;

/** Opens a log to add to, made if need be. @returns Its descriptor, for a child's `stdio`. @throws what `openSync` throws. */
export function openForeignLog(path: string): number {
  const { O_WRONLY, O_APPEND, O_CREAT } = constants;
  return openSync(path, O_WRONLY | O_APPEND | O_CREAT | LOG_ONLY_FLAGS, 0o600);
}

/** The last of a log; empty when it is gone or no file. Never rejects. */
export async function foreignLogTail(path: string): Promise<string> {
  try {
    const log = await open(path, constants.O_RDONLY | LOG_ONLY_FLAGS);
    try {
      const { size } = await log.stat();
      const start = Math.max(0, size - LOG_TAIL_BYTES);
      const buffer = Buffer.alloc(size - start);
      const { bytesRead } = await log.read(buffer, 0, buffer.length, start);
      return buffer.toString("utf8", 0, bytesRead);
    } finally {
      await log.close();
    }
  } catch {
    return "";
  }
}
