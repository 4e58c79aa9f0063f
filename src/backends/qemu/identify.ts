// Which QEMU it is. Asking the program costs 10 ms, so its answer is kept as long as its file stays the same.

import { stat } from "node:fs/promises";
import type { Deadline } from "../../base/deadline.js";
import { SmolVMError } from "../../errors/smolvm-error.js";
import { runProgram } from "../../host/process.js";

/** What each program that was asked said, with the state of its file at that time. */
const known = new Map<string, { readonly file: string; readonly version: string }>();

/**
 * @returns Version, size and time of the program: another build of the same version is another QEMU.
 * @throws {HOST_UNSUPPORTED}
 */
export async function identifyQemu(program: string, deadline: Deadline): Promise<string> {
  const { size, mtime, mtimeMs, ino, dev } = await status(program);
  const file = [dev, ino, size, mtimeMs].join(" ");
  let answer = known.get(program);
  if (answer?.file !== file) {
    answer = { file, version: await askVersion(program, deadline) };
    known.set(program, answer);
  }
  return `${answer.version}, ${size} bytes of ${mtime.toISOString()}`;
}

async function status(program: string) {
  try {
    return await stat(program); // Follows links, as executing it does.
  } catch (error) {
    throw new SmolVMError("HOST_UNSUPPORTED", `Cannot find "${program}"`, { details: { program }, cause: error });
  }
}

async function askVersion(program: string, deadline: Deadline): Promise<string> {
  const options = { timeoutMs: deadline.remainingMs, signal: deadline.signal };
  const { stdout } = await runProgram([program, "--version"], options);
  return stdout.split("\n")[0]?.trim() || "QEMU";
}
