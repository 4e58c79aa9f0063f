// Whether netguard can enforce allowed names here: it needs a user namespace for that.

import type { Deadline } from "../base/deadline.js";
import { isSmolVMError } from "../errors/smolvm-error.js";
import { bareEnvironment } from "../host/paths.js";
import { runProgram } from "../host/process.js";
import { unprivilegedUser } from "./unprivileged-user.js";

/** How long the attempt may take, in milliseconds; it takes some ten. */
const PROBE_LIMIT_MS = 5_000;

/**
 * @param guardPath Path of the `netguard` program.
 * @returns `undefined` when it works, else why not.
 * @throws {HOST_UNSUPPORTED} {TIMEOUT} {ABORTED}
 */
export async function probeNames(guardPath: string, deadline: Deadline): Promise<string | undefined> {
  const user = unprivilegedUser();
  const argv = [guardPath, ...(user === undefined ? [] : ["-runas", `${user.uid}:${user.gid}`]), "-probe-names"];
  const { remainingMs, signal } = deadline.atMost(PROBE_LIMIT_MS);
  try {
    await runProgram(argv, { env: bareEnvironment(), cwd: "/", timeoutMs: remainingMs, signal });
    return undefined;
  } catch (error) {
    if (!isSmolVMError(error, "HOST_COMMAND_FAILED")) throw error;
    const stderr = String(error.details["stderr"] ?? "").trim();
    return stderr === "" ? error.message : stderr;
  }
}
