// Which version a program is. Asking costs a process, so an answer is kept as long as the file stays the same.

import { stat } from "node:fs/promises";
import type { Deadline } from "../../base/deadline.js";
import { sleep } from "../../base/sleep.js";
import { isSmolVMError, SmolVMError } from "../../errors/smolvm-error.js";
import { runProgram } from "../process.js";
import { type FirecrackerProgramName, parseStatedVersion, type StatedVersion } from "./version.js";

/** One of the two programs, found and asked. */
export interface IdentifiedProgram {
  readonly path: string;
  readonly version: StatedVersion;
  /** Differs for another build of the same version: for keying what was found out with exactly this program. */
  readonly fingerprint: string;
}

/** Longest answer to `--version`, in milliseconds; it takes a few. */
const ANSWER_LIMIT_MS = 5_000;

/** What each program that was asked said, with the state of its file at that time. */
const known = new Map<string, { readonly file: string; readonly version: StatedVersion }>();

/**
 * @throws {HOST_UNSUPPORTED} when it does not run, does not answer in time, or says something else.
 * @throws {ABORTED} {TIMEOUT} when the deadline ends first.
 */
export async function identifyProgram(
  name: FirecrackerProgramName,
  path: string,
  deadline: Deadline,
): Promise<IdentifiedProgram> {
  const { dev, ino, size, mtimeNs, ctimeNs, mtime } = await fileStatus(name, path);
  const file = [name, dev, ino, size, mtimeNs, ctimeNs].join(" ");
  let answer = known.get(path);
  if (answer?.file !== file) {
    answer = { file, version: await askVersion(name, path, deadline) };
    known.set(path, answer);
  }
  const { version } = answer;
  return { path, version, fingerprint: `${name} ${version.text}, ${size} bytes of ${mtime.toISOString()}` };
}

async function fileStatus(name: FirecrackerProgramName, path: string) {
  try {
    return await stat(path, { bigint: true }); // Follows links, as executing it does.
  } catch (error) {
    throw unusable(name, path, "it cannot be found", error);
  }
}

async function askVersion(name: FirecrackerProgramName, path: string, deadline: Deadline): Promise<StatedVersion> {
  const stdout = await runForVersion(name, path, deadline);
  const version = parseStatedVersion(name, stdout);
  if (version === undefined) throw unusable(name, path, "its answer to --version states none");
  return version;
}

async function runForVersion(name: FirecrackerProgramName, path: string, deadline: Deadline): Promise<string> {
  try {
    return await runUnlessBusy(path, deadline.atMost(ANSWER_LIMIT_MS));
  } catch (error) {
    const isOurs = isSmolVMError(error, "ABORTED") || (isSmolVMError(error, "TIMEOUT") && deadline.hasExpired);
    if (isOurs || !isSmolVMError(error)) throw error;
    throw unusable(name, path, error.message, error);
  }
}

/** Longest that another process may hold a file that was just written, in milliseconds. */
const BUSY_LIMIT_MS = 1_000;
const BUSY_PAUSE_MS = 20;

/**
 * A child that this process starts at the same time has a copy of every descriptor until it executes its program. One of a
 * file that is open for writing makes that file "busy" (ETXTBSY, execve(2)).
 */
async function runUnlessBusy(path: string, deadline: Deadline): Promise<string> {
  const busy = deadline.atMost(BUSY_LIMIT_MS);
  for (;;) {
    try {
      const { remainingMs, signal } = deadline;
      return (await runProgram([path, "--version"], { timeoutMs: remainingMs, signal })).stdout;
    } catch (error) {
      const isBusy = isSmolVMError(error) && error.details["reason"] === "ETXTBSY";
      if (!isBusy || busy.hasExpired) throw error;
      await sleep(BUSY_PAUSE_MS, deadline.signal);
    }
  }
}

function unusable(name: FirecrackerProgramName, path: string, why: string, cause?: unknown): SmolVMError {
  return new SmolVMError("HOST_UNSUPPORTED", `Cannot use "${path}" as ${name}: ${why}`, {
    details: { program: path, why },
    cause,
  });
}
