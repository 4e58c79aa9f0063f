// Runs a program of the host's system for a build, within the build's deadline.

import type { Deadline } from "../base/deadline.js";
import { childEnvironment } from "../host/paths.js";
import { type ProgramResult, type RunProgramOptions, runProgram } from "../host/process.js";

/** Where Debian keeps administrators' programs; ordinary users do not have them in PATH. */
const SYSTEM_DIRECTORIES = "/usr/sbin:/sbin";

/** The environment of build programs: ours, with the system directories at the end of PATH. */
export function hostToolEnvironment(): Record<string, string> {
  const environment = childEnvironment();
  return { ...environment, PATH: `${environment["PATH"] ?? "/usr/bin:/bin"}:${SYSTEM_DIRECTORIES}` };
}

/** {@link runProgram} with a {@link Deadline} and {@link hostToolEnvironment}. */
export function runHostTool(
  argv: readonly string[],
  deadline: Deadline,
  options: Omit<RunProgramOptions, "signal" | "timeoutMs"> = {},
): Promise<ProgramResult> {
  return runProgram(argv, {
    ...options,
    env: { ...hostToolEnvironment(), ...options.env },
    signal: deadline.signal,
    timeoutMs: deadline.remainingMs,
  });
}
