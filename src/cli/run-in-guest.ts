// Runs a command in a guest as if it ran here: its streams are ours, its exit status is ours.

import { isSmolVMError, SmolVMError } from "../errors/smolvm-error.js";
import type { CommandOptions, CommandResult, SmolVM } from "../index.js";
import type { CommandContext, Outcome } from "./command.js";
import { writeBytes } from "./output/write-bytes.js";
import { isAtTerminal, runInTerminal } from "./run-in-terminal.js";

/** What the library keeps of output that went to its reader already, in bytes; 0 is not allowed. */
const KEPT_OUTPUT_BYTES = 1;
/** Exit statuses of a program that is not there, or cannot be run, as of a shell (POSIX, "Exit Status for Commands"). */
const NOT_FOUND_EXIT = 127;
const NOT_RUNNABLE_EXIT = 126;

/** A command as the command line has it. */
export interface GuestCommandLine {
  readonly argv: readonly string[];
  readonly options: CommandOptions;
  /** Run it on this program's terminal. */
  readonly isOnTerminal: boolean;
}

/**
 * @returns An outcome with the command's exit status. With `--json` output is collected instead of passed on.
 * @throws As `SmolVM.exec`. @throws {INVALID_CONFIG} when it is to run on a terminal and there is none.
 */
export async function runInGuest(
  context: CommandContext,
  vm: Pick<SmolVM, "exec" | "spawn">,
  { argv, options, isOnTerminal }: GuestCommandLine,
): Promise<Outcome> {
  const { host, isJson, signal } = context;
  const shown = argv.join(" ");
  if (isOnTerminal) {
    const env = withTerm(options.env, host.env);
    const settings = { ...options, stdin: undefined, env, signal, maxOutputBytes: KEPT_OUTPUT_BYTES };
    return told(shown, signal, () => runInTerminal(context, (pty) => vm.spawn(argv, { ...settings, pty })));
  }
  const passOn: CommandOptions = {
    maxOutputBytes: KEPT_OUTPUT_BYTES,
    onOutput: (stream, data) => writeBytes(host[stream], data, signal),
  };
  const { stdin } = host;
  try {
    return await told(shown, signal, () => vm.exec(argv, { ...options, stdin, signal, ...(isJson ? {} : passOn) }));
  } finally {
    stdin.destroy(); // Else a terminal or an idle pipe keeps being read.
  }
}

/**
 * The user's login shell: on this program's terminal, or without one reading its lines from stdin.
 *
 * @throws As `SmolVM.shell`.
 */
export async function shellInGuest(
  context: CommandContext,
  vm: Pick<SmolVM, "shell">,
  options: CommandOptions,
): Promise<Outcome> {
  const { host, signal, isJson } = context;
  const settings = { ...options, stdin: undefined, signal, maxOutputBytes: KEPT_OUTPUT_BYTES };
  if (isAtTerminal(host) && !isJson) {
    const env = withTerm(options.env, host.env);
    return told("login shell", signal, () => runInTerminal(context, (pty) => vm.shell({ ...settings, env, pty })));
  }
  try {
    return await told("login shell", signal, async () => {
      const kept = isJson ? { maxOutputBytes: undefined } : {};
      const process = vm.shell({ ...settings, ...kept, pty: null, stdin: host.stdin });
      if (isJson) return process;
      for await (const { stream, data } of process) await writeBytes(host[stream], data, signal);
      return process;
    });
  } finally {
    host.stdin.destroy();
  }
}

/** The kind of this program's terminal, unless the user says another. */
function withTerm(
  env: CommandOptions["env"],
  own: Readonly<Record<string, string | undefined>>,
): CommandOptions["env"] {
  const { TERM } = own;
  return TERM === undefined || TERM === "" ? env : { TERM, ...env };
}

/** @param signal What ended the command if it has fired: a process handle gives a result then all the same. */
async function told(shown: string, signal: AbortSignal, run: () => PromiseLike<CommandResult>): Promise<Outcome> {
  try {
    const result = await run();
    if (signal.aborted) throw new SmolVMError("ABORTED", "The command was aborted by the caller and killed");
    if (result.timedOut) throw new SmolVMError("COMMAND_TIMEOUT", "The command ran too long and was killed");
    return outcomeOf(shown, result);
  } catch (error) {
    const { errno } = isSmolVMError(error, "COMMAND_FAILED") ? error.details : {};
    if (errno === undefined) throw error;
    return notStarted(error as SmolVMError, errno === "ENOENT" ? NOT_FOUND_EXIT : NOT_RUNNABLE_EXIT);
  }
}

function notStarted(cause: SmolVMError, exitCode: number): Outcome {
  const hint = "Check the program's name, and whether the image has it.";
  const failure = new SmolVMError("COMMAND_FAILED", cause.message, { details: cause.details, cause, hint });
  return { data: cause.details, exitCode, failures: [failure] };
}

function outcomeOf(shown: string, result: CommandResult): Outcome {
  const { exitCode, signal, ok } = result;
  if (ok) return { data: result };
  const how = signal === null ? `exited with ${exitCode}` : `was killed by ${signal}`;
  const failure = new SmolVMError("COMMAND_FAILED", `Command "${shown}" ${how}`);
  return { data: result, exitCode, failures: [failure], isQuiet: true };
}
