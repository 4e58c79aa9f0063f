// The completion script for bash. It needs nothing but bash itself.

import { allNodes, type Candidates, type CommandNode, LIST_COMMANDS } from "./command-tree.js";

/** @returns A script to source. Words behind `--` belong to the guest and are left to bash's own completion. */
export function bashScript(root: CommandNode): string {
  const nodes = allNodes(root);
  const descents = nodes.filter(({ path }) => path.length > 0).map(({ path }) => descent(path));
  const values = nodes.flatMap((node) =>
    node.options.flatMap(({ flags, value }) =>
      value === undefined ? [] : [`    ${flags.map((flag) => pattern(node, flag)).join(" | ")}) ${action(value)} ;;`],
    ),
  );
  const words = nodes.map(
    (node) => `    ${quote(key(node))})
      options=${quote(node.options.flatMap(({ flags }) => flags).join(" "))}
      ${action(node.children.length > 0 ? { kind: "words", words: names(node) } : node.argument, "")} ;;`,
  );
  return `# Completion of smolvm for bash. To use it: source <(smolvm completion bash)
_smolvm() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD-1]} path="" words="" options="" i
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    [[ \${COMP_WORDS[i]} == -- ]] && return
    case "$path:\${COMP_WORDS[i]}" in
${descents.join("\n")}
    esac
  done
  case "$path:$prev" in
${values.join("\n")}
  esac
  case "$path" in
${words.join("\n")}
  esac
  [[ $cur == -* ]] && words=$options
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -o default -F _smolvm smolvm`;
}

function descent(path: readonly string[]): string {
  return `      ${quote(`${path.slice(0, -1).join(" ")}:${path.at(-1)}`)}) path=${quote(path.join(" "))} ;;`;
}

function names({ children }: CommandNode): readonly string[] {
  return children.map(({ path }) => path.at(-1) ?? "");
}

function key({ path }: CommandNode): string {
  return path.join(" ");
}

function pattern(node: CommandNode, flag: string): string {
  return quote(`${key(node)}:${flag}`);
}

/** @param finish What to do with the words; by default they are all there is. */
function action(candidates: Candidates, finish = ` COMPREPLY=($(compgen -W "$words" -- "$cur")); return`): string {
  switch (candidates.kind) {
    case "words":
      return `words=${quote(candidates.words.join(" "))}${finish && `;${finish}`}`;
    case "vms":
    case "snapshots":
    case "images":
      return `words=$("\${COMP_WORDS[0]}" ${LIST_COMMANDS[candidates.kind]} 2>/dev/null)${finish && `;${finish}`}`;
    case "files":
      return "return";
    case "none":
      return finish === "" ? ":" : "compopt +o default 2>/dev/null; return";
  }
}

function quote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
