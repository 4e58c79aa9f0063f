// Every command by its path, with the file that holds it: only the file of the command in use is loaded.

import type { CommandModule } from "./command.js";

/** One line of the table. */
export interface CommandEntry {
  /** Words after `smolvm`, e.g. `"image build"`. */
  readonly path: string;
  readonly summary: string;
  load(): Promise<{ readonly command: CommandModule }>;
}

/** Summaries of the words that only hold other commands. */
export const GROUPS: Readonly<Record<string, string>> = {
  env: "the environment of a microVM's commands",
  port: "ports of this host that lead to a microVM",
  network: "what a microVM's guest may reach",
  snapshot: "keep a microVM as it is now, and go on from there",
  image: "build, look at and remove images",
};

/** All commands, in the order of the help. */
export const COMMANDS: readonly CommandEntry[] = [
  {
    path: "run",
    summary: "run a command in a microVM that is removed afterwards",
    load: () => import("./commands/run.js"),
  },
  { path: "create", summary: "create and start a microVM", load: () => import("./commands/create.js") },
  { path: "list", summary: "list all microVMs", load: () => import("./commands/list.js") },
  { path: "info", summary: "show what a microVM is and how it is", load: () => import("./commands/info.js") },
  { path: "start", summary: "start microVMs", load: () => import("./commands/start.js") },
  { path: "stop", summary: "shut microVMs down; their disks stay", load: () => import("./commands/stop.js") },
  { path: "pause", summary: "stop the vCPUs of microVMs", load: () => import("./commands/pause.js") },
  { path: "resume", summary: "let paused microVMs run on", load: () => import("./commands/resume.js") },
  { path: "delete", summary: "stop and delete microVMs", load: () => import("./commands/delete.js") },
  { path: "exec", summary: "run a command in a running microVM", load: () => import("./commands/exec.js") },
  { path: "shell", summary: "open a microVM's login shell", load: () => import("./commands/shell.js") },
  { path: "ssh", summary: "connect to a microVM with OpenSSH's client", load: () => import("./commands/ssh.js") },
  { path: "cp", summary: "copy files to or from a microVM", load: () => import("./commands/cp.js") },
  {
    path: "env set",
    summary: "set variables of all later commands of a microVM",
    load: () => import("./commands/env-set.js"),
  },
  { path: "env unset", summary: "remove variables", load: () => import("./commands/env-unset.js") },
  { path: "env list", summary: "list the variables", load: () => import("./commands/env-list.js") },
  {
    path: "logs",
    summary: "show the end of a microVM's console and what its network refused",
    load: () => import("./commands/logs.js"),
  },
  {
    path: "port expose",
    summary: "lead a port of this host to a running microVM",
    load: () => import("./commands/port-expose.js"),
  },
  { path: "port close", summary: "close a port", load: () => import("./commands/port-close.js") },
  { path: "port list", summary: "list the ports", load: () => import("./commands/port-list.js") },
  {
    path: "network update",
    summary: "replace what a microVM's guest may reach",
    load: () => import("./commands/network-update.js"),
  },
  {
    path: "network denials",
    summary: "show what a microVM's guest was refused",
    load: () => import("./commands/network-denials.js"),
  },
  { path: "fork", summary: "start copies of a running microVM", load: () => import("./commands/fork.js") },
  {
    path: "snapshot create",
    summary: "keep a running microVM's memory and disk",
    load: () => import("./commands/snapshot-create.js"),
  },
  { path: "snapshot list", summary: "list the snapshots", load: () => import("./commands/snapshot-list.js") },
  {
    path: "snapshot restore",
    summary: "start a new microVM from a snapshot",
    load: () => import("./commands/snapshot-restore.js"),
  },
  { path: "snapshot delete", summary: "delete snapshots", load: () => import("./commands/snapshot-delete.js") },
  { path: "image build", summary: "build an image", load: () => import("./commands/image-build.js") },
  { path: "image list", summary: "list the images", load: () => import("./commands/image-list.js") },
  { path: "image inspect", summary: "show an image", load: () => import("./commands/image-inspect.js") },
  { path: "image rm", summary: "remove images", load: () => import("./commands/image-rm.js") },
  { path: "image prune", summary: "remove what no microVM uses", load: () => import("./commands/image-prune.js") },
  { path: "doctor", summary: "check what this host can do", load: () => import("./commands/doctor.js") },
  { path: "setup", summary: "install what this host lacks", load: () => import("./commands/setup.js") },
  {
    path: "reconcile",
    summary: "bring records and host to agreement after a crash",
    load: () => import("./commands/reconcile.js"),
  },
  { path: "completion", summary: "print a completion script", load: () => import("./commands/completion.js") },
];

/**
 * Which commands a command line may mean, judged by its first words.
 *
 * @returns Entries whose options must be known to parse it; all of them for `help`.
 */
export function wantedCommands(argv: readonly string[]): readonly CommandEntry[] {
  const [first, second] = operands(argv);
  if (first === "help") return COMMANDS;
  const exact = COMMANDS.filter(({ path }) => path === first || path === `${first} ${second}`);
  return exact.length > 0 ? exact : COMMANDS.filter(({ path }) => path.startsWith(`${first} `));
}

/** The command's name as `--json` shows it: the words of its path, or `smolvm` when it is none. */
export function commandName(argv: readonly string[]): string {
  const [first, second] = operands(argv);
  const names = new Set([...COMMANDS.map(({ path }) => path), ...Object.keys(GROUPS), "help"]);
  return [`${first} ${second}`, first].find((name) => name !== undefined && names.has(name)) ?? "smolvm";
}

/** True when `--json` stands before `--`, behind which everything belongs to the guest. */
export function asksForJson(argv: readonly string[]): boolean {
  return beforeGuestArguments(argv).includes("--json");
}

function operands(argv: readonly string[]): readonly string[] {
  return beforeGuestArguments(argv).filter((word) => !word.startsWith("-"));
}

function beforeGuestArguments(argv: readonly string[]): readonly string[] {
  const end = argv.indexOf("--");
  return end === -1 ? argv : argv.slice(0, end);
}
