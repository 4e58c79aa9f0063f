// Which things a command is to delete: those that are named, or all of them, if somebody agrees.

import { invalidConfig } from "../errors/invalid-config.js";
import { SmolVMError } from "../errors/smolvm-error.js";
import { ask, canAsk } from "./ask.js";
import type { CommandContext } from "./command.js";

/** As commander gives them. */
export interface DeleteOptions {
  readonly all?: boolean;
  readonly force?: boolean;
}

/** What was asked for. */
export interface Choice {
  /** Names from the command line. */
  readonly args: readonly string[];
  readonly options: DeleteOptions;
  /** What one of them is called in a question, e.g. `VM`. */
  readonly noun: string;
  /** Finds all of them. */
  list(): Promise<readonly string[]>;
}

/**
 * @returns The names; for `--all` only after a yes, or with `--force`.
 * @throws {INVALID_CONFIG} unless there are either names or `--all`, and where `--all` needs an answer and nobody can
 *   be asked. @throws {ABORTED} when the answer was no.
 */
export async function chosenNames(context: CommandContext, choice: Choice): Promise<readonly string[]> {
  const { args, options, noun } = choice;
  const isAll = options.all === true;
  if (isAll === args.length > 0) {
    throw invalidConfig({ field: "argv", value: args, expected: `either ids of ${noun}s or --all` });
  }
  if (!isAll) return args;
  const names = await choice.list();
  if (names.length > 0 && options.force !== true) await confirm(context, names, noun);
  return names;
}

async function confirm(context: CommandContext, names: readonly string[], noun: string): Promise<void> {
  if (!canAsk(context)) {
    throw invalidConfig({ field: "--all", value: "--all alone", expected: "--force too, where nobody can be asked" });
  }
  const question = `Delete ${names.length} ${noun}${names.length === 1 ? "" : "s"} (${names.join(", ")})?`;
  if (await ask(context, question)) return;
  throw new SmolVMError("ABORTED", "Nothing was deleted");
}
