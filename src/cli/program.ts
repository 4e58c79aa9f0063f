// Builds commander's tree from the table of commands.

import { Command } from "commander";
import type { CommandInput, CommandModule } from "./command.js";
import { COMMANDS, type CommandEntry, GROUPS } from "./command-table.js";
import { packageVersion } from "./version.js";

/** What the tree is built for. */
export interface ProgramOptions {
  /** Commands whose options are needed; all others have only a name and a summary. */
  readonly wanted: readonly CommandEntry[];
  /** Runs the command that was asked for. */
  perform(module: CommandModule, input: CommandInput<object>): Promise<void>;
  /** Takes the text of `--help` and `--version`. */
  writeOut(text: string): void;
}

const EXAMPLES = `
Examples:
  $ smolvm run -- uname -a
  $ echo 'print(6 * 7)' | smolvm run --network none -- python3 -
  $ smolvm create --id box --memory 2048 --port 8080:80
  $ smolvm exec box -- sh -c 'ls | wc -l'
  $ smolvm fork box --count 3
  $ smolvm snapshot create box --name clean && smolvm snapshot restore clean
  $ smolvm delete box`;

/** The whole command line; nothing is printed and the process is not ended by it. */
export async function buildProgram({ wanted, perform, writeOut }: ProgramOptions): Promise<Command> {
  const program = new Command("smolvm")
    .description("microVMs of your own, for code that you do not trust")
    .version(packageVersion(), "-V, --version", "print the version")
    .option("--json", "print one JSON document: { ok, command, exitCode, data, error }")
    .helpOption("-h, --help", "print help")
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({ writeOut, writeErr: () => {}, outputError: () => {} })
    .exitOverride()
    .addHelpText("after", EXAMPLES);
  for (const entry of COMMANDS) {
    const words = entry.path.split(" ");
    const name = words.pop() ?? entry.path;
    const command = groupOf(program, words).command(name).description(entry.summary);
    if (!wanted.includes(entry)) continue;
    const module = (await entry.load()).command;
    module.configure(command);
    command.action(() => perform(module, { args: command.args, options: command.opts() }));
  }
  return program;
}

function groupOf(program: Command, words: readonly string[]): Command {
  const [word] = words;
  if (word === undefined) return program;
  const existing = program.commands.find((command) => command.name() === word);
  return existing ?? program.command(word).description(GROUPS[word] ?? "");
}
