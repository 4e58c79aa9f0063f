// The completion script for zsh.

import { allNodes, type Candidates, type CommandNode, LIST_COMMANDS } from "./command-tree.js";

/** @returns A script to source after `compinit`, or to put as `_smolvm` on `fpath`. */
export function zshScript(root: CommandNode): string {
  const nodes = allNodes(root);
  const descents = nodes
    .filter(({ path }) => path.length > 0)
    .map(
      ({ path }) =>
        `      ${quote(`${path.slice(0, -1).join(" ")}:${path.at(-1)}`)}) where=${quote(path.join(" "))} ;;`,
    );
  const values = nodes.flatMap((node) =>
    node.options.flatMap(({ flags, value }) => {
      if (value === undefined) return [];
      const patterns = flags.map((flag) => quote(`${node.path.join(" ")}:${flag}`));
      return [`    ${patterns.join("|")}) ${action(value)}; return ;;`];
    }),
  );
  const words = nodes.map(
    (node) => `    ${quote(node.path.join(" "))})
      options=(${node.options.flatMap(({ flags, description }) => flags.map((flag) => item(flag, description))).join(" ")})
      [[ $cur == -* ]] && { _describe option options; return }
      ${node.children.length > 0 ? children(node) : action(node.argument)} ;;`,
  );
  return `#compdef smolvm
# Completion of smolvm for zsh. To use it: source <(smolvm completion zsh)
_smolvm() {
  local cur=$words[CURRENT] prev=$words[CURRENT-1] where='' i
  local -a options names
  for ((i = 2; i < CURRENT; i++)); do
    [[ $words[i] == -- ]] && { _files; return }
    case "$where:$words[i]" in
${descents.join("\n")}
    esac
  done
  case "$where:$prev" in
${values.join("\n")}
  esac
  case "$where" in
${words.join("\n")}
  esac
}
if [[ $funcstack[1] == _smolvm ]]; then
  _smolvm "$@"
else
  compdef _smolvm smolvm
fi`;
}

function children({ children }: CommandNode): string {
  const items = children.map(({ path, description }) => item(path.at(-1) ?? "", description));
  return `names=(${items.join(" ")}); _describe command names`;
}

function action(candidates: Candidates): string {
  switch (candidates.kind) {
    case "words":
      return `compadd -- ${candidates.words.map(quote).join(" ")}`;
    case "vms":
    case "snapshots":
    case "images":
      return `compadd -- \${(f)"$($words[1] ${LIST_COMMANDS[candidates.kind]} 2>/dev/null)"}`;
    case "files":
      return "_files";
    case "none":
      return ":";
  }
}

/** `word:description` as `_describe` takes it. */
function item(word: string, description: string): string {
  return quote(`${word}:${description.replaceAll(":", "\\:")}`);
}

function quote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
