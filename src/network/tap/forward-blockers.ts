// Firewalls of others that keep the packets of TAP guests from leaving the host. An accept of ours does not overrule them,
// and their rules are not ours to change: the user has to know.

import { readFile } from "node:fs/promises";
import type { Deadline } from "../../base/deadline.js";
import { isSmolVMError } from "../../errors/smolvm-error.js";
import { findProgram } from "../../host/find-program.js";
import { runProgram } from "../../host/process.js";
import { DEVICE_PREFIX } from "./addresses.js";
import { TABLE } from "./rule-words.js";

/** A chain of others that drops what it does not know of what the host forwards. */
export interface ForwardBlocker {
  /** E.g. `ip filter FORWARD`. */
  readonly name: string;
  /** Commands that let guests through: what they send, and the answers. */
  readonly remedy: readonly string[];
}

/** A part of a rule, as nft prints it. */
type Expression = Readonly<Record<string, unknown>>;

interface ListedChain {
  readonly family: string;
  readonly table: string;
  readonly name: string;
  readonly hook?: string;
  readonly policy?: string;
}

interface Listed {
  readonly chain?: ListedChain;
  readonly rule?: { readonly expr?: readonly Expression[] };
}

/** Docker makes it for rules of the host's user, asks it first and leaves it alone (docs.docker.com, "Packet filtering"). */
const DOCKER_USER = "DOCKER-USER";
const LEGACY = "iptables-legacy";
/** Names the tables of the old iptables, which nft does not see; only root may read it. */
const LEGACY_TABLES = "/proc/self/net/ip_tables_names";

/**
 * Chains whose policy is to drop, as Docker's is. One with a rule that accepts all that comes from our devices is none.
 *
 * @throws {HOST_UNSUPPORTED} {HOST_COMMAND_FAILED} {TIMEOUT} {ABORTED}
 */
export async function forwardBlockers(deadline: Deadline): Promise<readonly ForwardBlocker[]> {
  const found: ForwardBlocker[] = [];
  const chains = listed(await run(["nft", "-j", "list", "chains"], deadline)).flatMap(({ chain }) => chain ?? []);
  for (const chain of blockingChains(chains)) {
    const rules = listed(await run(["nft", "-j", "list", "table", chain.family, chain.table], deadline));
    if (!rules.some(({ rule }) => acceptsGuests(rule?.expr ?? []))) found.push(blockerOf(chain, chains));
  }
  if (await hasLegacyFilter()) found.push(...legacyBlockers(await legacyRules(deadline)));
  return found;
}

async function run(argv: readonly string[], deadline: Deadline): Promise<string> {
  return (await runProgram(argv, { timeoutMs: deadline.remainingMs, signal: deadline.signal })).stdout;
}

function listed(json: string): readonly Listed[] {
  return (JSON.parse(json) as { nftables: readonly Listed[] }).nftables;
}

/** Those of others that look at forwarded IPv4 packets and drop what their rules say nothing of. */
export function blockingChains(chains: readonly ListedChain[]): readonly ListedChain[] {
  return chains
    .filter(({ table, family }) => table !== TABLE && (family === "ip" || family === "inet"))
    .filter(({ hook, policy }) => hook === "forward" && policy === "drop");
}

/** Whether a rule accepts whatever comes from our devices. */
export function acceptsGuests(rule: readonly Expression[]): boolean {
  const [match, verdict, ...others] = rule.filter((part) => !("counter" in part));
  if (match === undefined || verdict === undefined || others.length > 0 || !("accept" in verdict)) return false;
  const { left, op, right } = (match["match"] ?? {}) as {
    left?: { meta?: { key?: string } };
    op?: string;
    right?: unknown;
  };
  return left?.meta?.key === "iifname" && op === "==" && right === `${DEVICE_PREFIX}*`;
}

/** @param all The chains of all tables. */
export function blockerOf({ family, table, name }: ListedChain, all: readonly ListedChain[]): ForwardBlocker {
  const isDockers = all.some((other) => other.family === family && other.table === table && other.name === DOCKER_USER);
  const place = isDockers ? DOCKER_USER : name;
  // A rule by nft makes iptables refuse its own table, and Docker with it.
  const isIptables =
    family === "ip" && table === "filter" && name === "FORWARD" && findProgram("iptables") !== undefined;
  const remedy = isIptables ? byIptables("iptables", place) : byNft(`nft insert rule ${family} ${table} ${place}`);
  return { name: `${family} ${table} ${name}`, remedy };
}

function byNft(insert: string): readonly string[] {
  return [
    `${insert} iifname '"${DEVICE_PREFIX}*"' accept`,
    `${insert} oifname '"${DEVICE_PREFIX}*"' ct state established,related accept`,
  ];
}

function byIptables(program: string, chain: string): readonly string[] {
  return [
    `${program} -I ${chain} -i ${DEVICE_PREFIX}+ -j ACCEPT`,
    `${program} -I ${chain} -o ${DEVICE_PREFIX}+ -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT`,
  ];
}

async function hasLegacyFilter(): Promise<boolean> {
  if (findProgram(LEGACY) === undefined) return false;
  const tables = await readFile(LEGACY_TABLES, "latin1").catch(() => "");
  return tables.split("\n").includes("filter");
}

/** A program that may not look, or a lock that is taken, is no finding. */
async function legacyRules(deadline: Deadline): Promise<string> {
  try {
    return await run([LEGACY, "-S"], deadline);
  } catch (error) {
    if (isSmolVMError(error, "HOST_COMMAND_FAILED")) return "";
    throw error;
  }
}

/** From what `iptables-legacy -S` prints. */
export function legacyBlockers(rules: string): readonly ForwardBlocker[] {
  const lines = rules.split("\n");
  const place = lines.includes(`-N ${DOCKER_USER}`) ? DOCKER_USER : "FORWARD";
  const isOpen = [DOCKER_USER, "FORWARD"].some((chain) => lines.includes(`-A ${chain} -i ${DEVICE_PREFIX}+ -j ACCEPT`));
  if (!lines.includes("-P FORWARD DROP") || isOpen) return [];
  return [{ name: `${LEGACY} filter FORWARD`, remedy: byIptables(LEGACY, place) }];
}
