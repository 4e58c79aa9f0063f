// Runs a command in a guest as if it ran here: its streams are ours, its exit status is ours.

import { isSmolVMError, SmolVMError } from "../errors/smolvm-error.js";
import type { CommandOptions, CommandResult, SmolVM } from "../index.js";
import type { CommandContext, Outcome } from "./command.js";
import { writeBytes } from "./output/write-bytes.js";

/** What the library keeps of output that went to its reader already, in bytes; 0 is not allowed. */
const KEPT_OUTPUT_BYTES = 1;
/** Exit statuses of a program that is not there, or cannot be run, as of a shell (POSIX, "Exit Status for Commands"). */
const NOT_FOUND_EXIT = 127;
const NOT_RUNNABLE_EXIT = 126;

/**
 * @returns An outcome with the command's exit status. With `--json` output is collected instead of passed on.
 * @throws As `SmolVM.exec`.
 */
export async function runInGuest(
  context: CommandContext,
  vm: Pick<SmolVM, "exec">,
  { argv, options }: { readonly argv: readonly string[]; readonly options: CommandOptions },
): Promise<Outcome> {
  const { host, isJson, signal } = context;
  const passOn: CommandOptions = {
    maxOutputBytes: KEPT_OUTPUT_BYTES,
    onOutput: (stream, data) => writeBytes(host[stream], data, signal),
  };
  const { stdin } = host;
  try {
    const result = await vm.exec(argv, { ...options, stdin, signal, ...(isJson ? {} : passOn) });
    return outcomeOf(argv, result);
  } catch (error) {
    const { errno } = isSmolVMError(error, "COMMAND_FAILED") ? error.details : {};
    if (errno === undefined) throw error;
    return notStarted(error as SmolVMError, errno === "ENOENT" ? NOT_FOUND_EXIT : NOT_RUNNABLE_EXIT);
  } finally {
    stdin.destroy(); // Else a terminal or an idle pipe keeps being read.
  }
}

function notStarted(cause: SmolVMError, exitCode: number): Outcome {
  const hint = "Check the program's name, and whether the image has it.";
  const failure = new SmolVMError("COMMAND_FAILED", cause.message, { details: cause.details, cause, hint });
  return { data: cause.details, exitCode, failures: [failure] };
}

function outcomeOf(argv: readonly string[], result: CommandResult): Outcome {
  const { exitCode, signal, ok } = result;
  if (ok) return { data: result };
  const how = signal === null ? `exited with ${exitCode}` : `was killed by ${signal}`;
  const failure = new SmolVMError("COMMAND_FAILED", `Command "${argv.join(" ")}" ${how}`);
  return { data: result, exitCode, failures: [failure], isQuiet: true };
}
