// The completion script for fish.

import { allNodes, type Candidates, type CommandNode, LIST_COMMANDS, type OptionNode } from "./command-tree.js";

/** @returns A script to source. */
export function fishScript(root: CommandNode): string {
  const nodes = allNodes(root);
  const descents = nodes
    .filter(({ path }) => path.length > 0)
    .map(({ path }) => {
      const from = `${path.slice(0, -1).join(" ")}:${path.at(-1)}`;
      return `            case ${quote(from)}\n                set where ${quote(path.join(" "))}`;
    });
  const lines = nodes.flatMap((node) => [
    ...node.options.map((option) => optionLine(node, option)),
    ...node.children.map(({ path, description }) =>
      line(node, `-a ${quote(path.at(-1) ?? "")} -d ${quote(description)}`),
    ),
    ...(node.argument.kind === "none" ? [] : [line(node, values(node.argument))]),
  ]);
  return `# Completion of smolvm for fish. To use it: smolvm completion fish | source
function __smolvm_at
    set -l where ''
    for word in (commandline -opc)[2..-1]
        test "$word" = --; and return 1
        switch "$where:$word"
${descents.join("\n")}
        end
    end
    test "$where" = "$argv[1]"
end
complete -c smolvm -e
complete -c smolvm -f -n 'not contains -- -- (commandline -opc)'
${lines.join("\n")}`;
}

function optionLine(node: CommandNode, { flags, description, value }: OptionNode): string {
  const names = flags.map((flag) => (flag.startsWith("--") ? `-l ${flag.slice(2)}` : `-s ${flag.slice(1)}`));
  return line(
    node,
    [...names, `-d ${quote(description)}`, value === undefined ? "" : valueFlags(value)].join(" ").trim(),
  );
}

function line({ path }: CommandNode, rest: string): string {
  return `complete -c smolvm -n ${quote(`__smolvm_at "${path.join(" ")}"`)} ${rest}`;
}

/** An option's value is required; only where it is a file are files offered. */
function valueFlags(candidates: Candidates): string {
  return candidates.kind === "files" ? "-r -F" : `-x ${values(candidates)}`.trim();
}

function values(candidates: Candidates): string {
  switch (candidates.kind) {
    case "words":
      return `-a ${quote(candidates.words.join(" "))}`;
    case "vms":
    case "snapshots":
    case "images":
      return `-a '(smolvm ${LIST_COMMANDS[candidates.kind]} 2>/dev/null)'`;
    case "files":
    case "none":
      return "";
  }
}

function quote(text: string): string {
  return `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
}
