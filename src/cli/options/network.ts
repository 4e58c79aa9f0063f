// Options that say what a guest's network is and what it may reach.

import { type Command, Option } from "commander";
import { invalidConfig } from "../../errors/invalid-config.js";
import type { EgressPolicy, VMConfig } from "../../index.js";
import { collectText } from "./environment.js";
import { wholeNumber } from "./values.js";

/** As commander gives them. */
export interface NetworkOptions extends EgressOptions {
  readonly network?: "none" | "user" | "tap";
  readonly rateLimit?: number;
}

/** As commander gives them. */
export interface EgressOptions {
  readonly egress?: "open" | "off";
  readonly allow?: readonly string[];
}

/** Declares `--network`, `--egress`, `--allow` and `--rate-limit`. */
export function addNetworkOptions(command: Command): void {
  command.addOption(
    new Option("--network <mode>", "network of the guest (default: user)").choices(["none", "user", "tap"]),
  );
  addEgressOptions(command);
  command.option("--rate-limit <mbps>", "megabits per second, each way", wholeNumber("--rate-limit"));
}

/** Declares `--egress` and `--allow`. */
export function addEgressOptions(command: Command): void {
  command
    .addOption(new Option("--egress <policy>", "what the guest may reach (default: open)").choices(["open", "off"]))
    .option(
      "--allow <host>",
      "reach only NAME, *.NAME, ADDRESS or CIDR, each with :PORT or without; repeatable",
      collectText,
    );
}

/** @returns The policy; `undefined` when none was given. @throws {INVALID_CONFIG} for both options at once. */
export function egressPolicy({ egress, allow }: EgressOptions): EgressPolicy | undefined {
  if (allow === undefined) return egress;
  if (egress === undefined) return { allow };
  throw invalidConfig({ field: "--egress", value: egress, expected: "no --allow beside it" });
}

/** The library's word for them; `undefined` when nothing was given. @throws {INVALID_CONFIG} */
export function networkConfig(options: NetworkOptions): VMConfig["network"] {
  const egress = egressPolicy(options);
  const { network, rateLimit } = options;
  if (egress === undefined && rateLimit === undefined) return network;
  return { mode: network ?? "user", egress, rateLimitMbps: rateLimit };
}
