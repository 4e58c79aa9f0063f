// Logs of children, in directories that belong to the children's users. This program may have more rights than those: what
// they may have put in a log's place, a link or a pipe, is neither followed nor waited for.

import { constants, openSync } from "node:fs";
import { open } from "node:fs/promises";
import { dirname } from "node:path";
import { SmolVMError } from "../errors/smolvm-error.js";

const LOG_ONLY_FLAGS = constants.O_NOFOLLOW | constants.O_NONBLOCK;
/** What an error keeps of a log, in bytes. */
const LOG_TAIL_BYTES = 4_096;

/**
 * Opens a log to add to, made if need be.
 *
 * @param whose Completes "Cannot open the log of ...".
 * @returns Its descriptor, for a child's `stdio`.
 * @throws {NETWORK_FAILED} when something else has its place; the children with logs of their own are the network's.
 */
export function openForeignLog(path: string, whose: string): number {
  const { O_WRONLY, O_APPEND, O_CREAT } = constants;
  try {
    return openSync(path, O_WRONLY | O_APPEND | O_CREAT | LOG_ONLY_FLAGS, 0o600);
  } catch (error) {
    const reason = (error as NodeJS.ErrnoException).code;
    throw new SmolVMError("NETWORK_FAILED", `Cannot open the log of ${whose}: ${reason}`, {
      details: { directory: dirname(path), reason },
      cause: error,
    });
  }
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
