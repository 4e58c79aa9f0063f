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
}

/** Declares them. */
export function addGuestCommandOptions(command: Command): void {
  command
    .option("--cwd <directory>", "absolute directory in the guest (default: the user's home)")
    .option("--user <name>", "user name or uid in the guest (default: root)")
    .option("--timeout <seconds>", "kill the command after this time (default: never)", secondsAsMs("--timeout"))
    .option("--env <name=value>", "set a variable, or pass one of yours on by its name; repeatable", collectText);
}

/** The library's words for them. @throws {INVALID_CONFIG} */
export function guestCommandOptions(
  { cwd, user, timeout, env = [] }: GuestCommandOptions,
  own: Readonly<Record<string, string | undefined>>,
): CommandOptions {
  return { cwd, user, env: environment(env, own), timeoutMs: timeout ?? Number.POSITIVE_INFINITY };
}
