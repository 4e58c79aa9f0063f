// The logs of a VM as files: the guest's serial console and the VMM's own messages. The log keeper bounds them.

import { appendFile, open } from "node:fs/promises";
import { join } from "node:path";

/** Names of the logs; the files are `NAME.log` and, after a rotation, `NAME.log.1`. */
export const CONSOLE_LOG = "console";
export const MESSAGES_LOG = "vmm";

/** What a VM's log keeper may hold on disk for each log, in bytes. */
export const LOG_LIMIT_BYTES = 1024 * 1024;
/** What of a log goes into an error, in bytes. */
export const LOG_TAIL_BYTES = 4096;

/** The agent's first line of a boot, and its last before it powers the machine off in order. */
const BOOT_MARK = "smolvm-agent: boot";
const ORDERLY_END_MARK = "smolvm-agent: power off";
/** Begins our own line before a guest that goes on from an image, which says nothing of a boot. */
export const GO_ON_MARK = "smolvm: goes on from";

/** @returns The last `limitBytes` of a log, rotation included; empty when there is none. */
export async function readLog(directory: string, name: string, limitBytes: number): Promise<string> {
  const current = await readTail(join(directory, `${name}.log`), limitBytes);
  if (current.length >= limitBytes) return current.toString("utf8");
  const older = await readTail(join(directory, `${name}.log.1`), limitBytes - current.length);
  return Buffer.concat([older, current]).toString("utf8");
}

/** Adds a line of ours; only while no log keeper has the file. A log that cannot be written is no reason to fail. */
export async function appendToConsole(directory: string, line: string): Promise<void> {
  await appendFile(join(directory, `${CONSOLE_LOG}.log`), line, { mode: 0o600 }).catch(() => {});
}

/** Whether the guest powered itself off, as far as its console tells. A hostile guest can write what it likes. */
export async function hasOrderlyEnd(directory: string): Promise<boolean> {
  const tail = await readLog(directory, CONSOLE_LOG, LOG_TAIL_BYTES);
  return tail.lastIndexOf(ORDERLY_END_MARK) > Math.max(tail.lastIndexOf(BOOT_MARK), tail.lastIndexOf(GO_ON_MARK));
}

async function readTail(path: string, limitBytes: number): Promise<Buffer> {
  let file: Awaited<ReturnType<typeof open>>;
  try {
    file = await open(path, "r");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return Buffer.alloc(0);
    throw error;
  }
  try {
    const { size } = await file.stat();
    const start = Math.max(0, size - limitBytes);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(size - start), 0, size - start, start);
    return buffer.subarray(0, bytesRead);
  } finally {
    await file.close();
  }
}
