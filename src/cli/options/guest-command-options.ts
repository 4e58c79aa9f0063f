// Options that say how a command runs in a guest.

import type { Command } from "commander";
import type { CommandOptions } from "../../index.js";
import { collectText, environment } from "./environment.js";
import { secondsAsMs } from "./values.js";

/** As commander gives them. */
export interface GuestCommandOptions {
  readonly cwd?: string;
  readonly user?: string;
  /** In milliseconds. */
  readonly timeout?: number;
  readonly env?: readonly string[];
  /** Stdin is always passed on; accepted because people write `-it`. */
  readonly interactive?: boolean;
  readonly tty?: boolean;
}

/** Declares them. */
export function addGuestCommandOptions(command: Command): void {
  command
    .option("--cwd <directory>", "absolute directory in the guest (default: the user's home)")
    .option("--user <name>", "user name or uid in the guest (default: root)")
    .option("--timeout <seconds>", "kill the command after this time (default: never)", secondsAsMs("--timeout"))
    .option("--env <name=value>", "set a variable, or pass one of yours on by its name; repeatable", collectText);
}

/** Declares what only commands of the user's own have. */
export function addTerminalOptions(command: Command): void {
  command
    .option("-i, --interactive", "pass stdin on, which is always done")
    .option("-t, --tty", "run it on a terminal of its own, with yours as its keyboard and screen");
}

/** The library's words for them. @throws {INVALID_CONFIG} */
export function guestCommandOptions(
  { cwd, user, timeout, env = [] }: GuestCommandOptions,
  own: Readonly<Record<string, string | undefined>>,
): CommandOptions {
  return { cwd, user, env: environment(env, own), timeoutMs: timeout ?? Number.POSITIVE_INFINITY };
}
