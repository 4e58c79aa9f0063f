// All commands and options as plain data, read off commander's own tree.

import type { Argument, Command, Option } from "commander";

/** Which command prints the names of what there is; words after `smolvm`. */
export const LIST_COMMANDS = { vms: "list -q", snapshots: "snapshot list -q", images: "image list -q" } as const;

/** What a word may be completed with. */
export type Candidates =
  | { readonly kind: "words"; readonly words: readonly string[] }
  /** Asked of the command in {@link LIST_COMMANDS} at the time. */
  | { readonly kind: keyof typeof LIST_COMMANDS }
  | { readonly kind: "files" }
  | { readonly kind: "none" };

/** One option. */
export interface OptionNode {
  /** E.g. `["-q", "--quiet"]`. */
  readonly flags: readonly string[];
  readonly description: string;
  /** What follows it; `undefined` for a switch. */
  readonly value: Candidates | undefined;
}

/** One command with what is below it. */
export interface CommandNode {
  /** Words after `smolvm`; empty for the program itself. */
  readonly path: readonly string[];
  readonly description: string;
  readonly options: readonly OptionNode[];
  /** What its first argument may be. */
  readonly argument: Candidates;
  readonly children: readonly CommandNode[];
}

/** Reads the tree of a program all of whose commands are loaded. */
export function commandTree(program: Command): CommandNode {
  return node(program, [], program.options);
}

function node(command: Command, path: readonly string[], globals: readonly Option[]): CommandNode {
  const own = path.length === 0 ? [] : command.options;
  return {
    path,
    description: command.description(),
    options: [...[...own, ...globals].filter(({ hidden }) => !hidden).map(optionNode), HELP],
    argument: argumentCandidates(command.registeredArguments[0]),
    children: command.commands.map((child) => node(child, [...path, child.name()], globals)),
  };
}

const HELP: OptionNode = { flags: ["-h", "--help"], description: "print help", value: undefined };

function optionNode(option: Option): OptionNode {
  const flags = [option.short, option.long].filter((flag) => flag !== undefined && flag !== null);
  const takesValue = option.required || option.optional;
  return { flags, description: option.description, value: takesValue ? valueCandidates(option) : undefined };
}

function valueCandidates({ argChoices, flags, long }: Option): Candidates {
  if (argChoices !== undefined) return { kind: "words", words: argChoices };
  if (long === "--image") return { kind: "images" };
  return { kind: flags.includes("<file>") ? "files" : "none" };
}

/** Arguments that name something, by their own names. */
const ARGUMENT_KINDS: Readonly<Record<string, keyof typeof LIST_COMMANDS>> = {
  vm: "vms",
  snapshot: "snapshots",
  image: "images",
};

function argumentCandidates(argument: Argument | undefined): Candidates {
  if (argument?.argChoices !== undefined) return { kind: "words", words: argument.argChoices };
  const name = argument?.name();
  return { kind: ARGUMENT_KINDS[name ?? ""] ?? "none" };
}

/** The node and everything below it. */
export function allNodes(root: CommandNode): readonly CommandNode[] {
  return [root, ...root.children.flatMap(allNodes)];
}
