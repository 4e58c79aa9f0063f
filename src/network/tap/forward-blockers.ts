// Firewalls of others that keep the packets of guests from leaving the host. An accept of ours does not overrule them, and
// their rules are not ours to change: the user has to know.

import type { Deadline } from "../../base/deadline.js";
import { runProgram } from "../../host/process.js";
import { TABLE } from "./rule-words.js";

interface ListedChain {
  readonly chain?: {
    readonly family: string;
    readonly table: string;
    readonly name: string;
    readonly hook?: string;
    readonly policy?: string;
  };
}

/**
 * Chains of others that drop whatever they do not know of what the host forwards, as Docker's do. Their rules may still
 * let guests pass; this looks at policies only.
 *
 * @returns E.g. `["ip filter FORWARD"]`.
 * @throws {HOST_UNSUPPORTED} {HOST_COMMAND_FAILED} {TIMEOUT} {ABORTED}
 */
export async function forwardBlockers(deadline: Deadline): Promise<readonly string[]> {
  const { stdout } = await runProgram(["nft", "-j", "list", "chains"], {
    timeoutMs: deadline.remainingMs,
    signal: deadline.signal,
  });
  return parseForwardBlockers(stdout);
}

/** From what `nft -j list chains` prints. */
export function parseForwardBlockers(json: string): readonly string[] {
  const { nftables } = JSON.parse(json) as { nftables: readonly ListedChain[] };
  return nftables
    .flatMap(({ chain }) => chain ?? [])
    .filter(({ table, family }) => table !== TABLE && (family === "ip" || family === "inet"))
    .filter(({ hook, policy }) => hook === "forward" && policy === "drop")
    .map(({ family, table, name }) => `${family} ${table} ${name}`);
}
