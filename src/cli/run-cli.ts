// One command line from its words to its exit status. The only place that decides what is printed where.

import { CommanderError } from "commander";
import { isSmolVMError, SmolVMError } from "../errors/smolvm-error.js";
import type { CliHost, CommandContext, CommandInput, CommandModule, Outcome } from "./command.js";
import { asksForJson, COMMANDS, commandName, wantedCommands } from "./command-table.js";
import { commandTree } from "./completion/command-tree.js";
import type { Interrupts } from "./interrupts.js";
import { envelope } from "./output/envelope.js";
import { errorReport, errorText } from "./output/error-text.js";
import { printable } from "./output/printable.js";
import { ProgressLine } from "./output/progress-line.js";
import { buildProgram } from "./program.js";
import { packageVersion } from "./version.js";

/**
 * Runs one command line.
 *
 * @param argv The words after `smolvm`.
 * @returns The exit status. Nothing is thrown.
 */
export async function runCli(argv: readonly string[], host: CliHost, interrupts: Interrupts): Promise<number> {
  const isJson = asksForJson(argv);
  const progress = new ProgressLine(host.stderr, { isSilent: isJson });
  let outcome: Outcome;
  try {
    outcome = interruptedOutcome(await perform(argv, { host, isJson, interrupts, progress }), interrupts);
  } catch (error) {
    outcome = failed(interruptedError(error, interrupts));
  }
  progress.end();
  const exitCode = exitCodeOf(outcome, interrupts);
  if (interrupts.first === "SIGPIPE") return exitCode;
  if (isJson) host.stdout.write(envelope(commandName(argv), outcome, exitCode));
  else print(outcome, host);
  return exitCode;
}

interface Surroundings {
  readonly host: CliHost;
  readonly isJson: boolean;
  readonly interrupts: Interrupts;
  readonly progress: ProgressLine;
}

async function perform(
  argv: readonly string[],
  { host, isJson, interrupts, progress }: Surroundings,
): Promise<Outcome> {
  let outcome: Outcome | undefined;
  let printed = "";
  const run = async (module: CommandModule, input: CommandInput<object>) => {
    if (module.isLong === true) progress.allowPlainLines();
    const context: CommandContext = {
      host,
      isJson,
      signal: interrupts.signal,
      onProgress: (event) => progress.show(event),
      endProgress: () => progress.end(),
      commandTree: async () => commandTree(await buildProgram({ wanted: COMMANDS, perform: run, writeOut: () => {} })),
    };
    outcome = await module.run(context, input);
  };
  const writeOut = (text: string) => {
    printed += text;
  };
  const program = await buildProgram({ wanted: wantedCommands(argv), perform: run, writeOut });
  try {
    await program.parseAsync(argv, { from: "user" });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode !== 0) throw usageError(error, argv);
    const text = printed.replace(/\n$/, "");
    return { data: error.code === "commander.version" ? { version: packageVersion() } : { help: text }, text };
  }
  return outcome ?? { data: null };
}

/** Commander's refusal of a command line, as ours. */
function usageError(error: CommanderError, argv: readonly string[]): SmolVMError {
  const name = commandName(argv);
  const help = `smolvm ${name === "smolvm" || name === "help" ? "" : `${name} `}--help`;
  const isMissing = error.code === "commander.help";
  const text = isMissing ? "Missing command" : error.message.replace(/^error: /, "").replaceAll(/\s*\n\s*/g, " ");
  return new SmolVMError("INVALID_CONFIG", text, { details: { field: "argv" }, hint: `See \`${help}\`.` });
}

function failed(error: unknown): Outcome {
  const details = error instanceof SmolVMError ? error.details : null;
  return { data: details, failures: [error] };
}

/** What an interruption ended, each part for the same reason: said once. */
function interruptedOutcome(outcome: Outcome, interrupts: Interrupts): Outcome {
  const { failures = [] } = outcome;
  const aborted = failures.find((error) => isSmolVMError(error, "ABORTED"));
  if (interrupts.first === undefined || aborted === undefined) return outcome;
  const others = failures.filter((error) => !isSmolVMError(error, "ABORTED"));
  return { ...outcome, failures: [...others, interruptedError(aborted, interrupts)] };
}

/** Once interrupted, whatever fails fails because of that. */
function interruptedError(error: unknown, { first, signal }: Interrupts): unknown {
  if (!signal.aborted || first === undefined) return error;
  const details = error instanceof SmolVMError ? error.details : {};
  return new SmolVMError("ABORTED", `Interrupted by ${first}`, { cause: error, details });
}

function exitCodeOf({ failures = [], exitCode }: Outcome, interrupts: Interrupts): number {
  if (interrupts.first === "SIGPIPE") return interrupts.exitCode ?? 1;
  if (exitCode !== undefined) return exitCode;
  const [first] = failures;
  if (first === undefined) return 0;
  return interrupts.exitCode ?? errorReport(first).exitStatus;
}

function print({ text, failures = [], isQuiet = false }: Outcome, { stdout, stderr, env }: CliHost): void {
  // Much of what a command tells was once a guest's: messages of failures, the console. Only a terminal obeys it.
  if (text !== undefined && text !== "") stdout.write(`${stdout.isTTY === true ? printable(text) : text}\n`);
  if (isQuiet) return;
  for (const failure of failures) stderr.write(errorText(failure, { isDebug: env["SMOLVM_DEBUG"] === "1" }));
}
