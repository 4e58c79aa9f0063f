// Runs a program of the host's system for a build, within the build's deadline.

import type { Deadline } from "../base/deadline.js";
import { childEnvironment } from "../host/paths.js";
import { type ProgramResult, type RunProgramOptions, runProgram } from "../host/process.js";

/** {@link runProgram} with a {@link Deadline}; `env` is added to {@link childEnvironment}. */
export function runHostTool(
  argv: readonly string[],
  deadline: Deadline,
  options: Omit<RunProgramOptions, "signal" | "timeoutMs"> = {},
): Promise<ProgramResult> {
  return runProgram(argv, {
    ...options,
    env: { ...childEnvironment(), ...options.env },
    signal: deadline.signal,
    timeoutMs: deadline.remainingMs,
  });
}
