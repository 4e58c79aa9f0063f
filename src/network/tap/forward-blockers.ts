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

/** A rule, as nft prints it. */
export interface ListedRule {
  readonly chain: string;
  readonly expr?: readonly Expression[];
}

interface Listed {
  readonly chain?: ListedChain;
  readonly rule?: ListedRule;
}

/** Docker makes it for rules of the host's user, asks it first and leaves it alone (docs.docker.com, "Packet filtering"). */
const DOCKER_USER = "DOCKER-USER";
const LEGACY = "iptables-legacy";
/** What a rule of it asks for that lets answers through: of packets to our devices, all or by state; or of all, by state. */
const LEGACY_ANSWERS = new RegExp(
  `^(-o ${DEVICE_PREFIX}\\+$|(-o ${DEVICE_PREFIX}\\+ )?-m (conntrack --ctstate|state --state) ([A-Z]+,)*ESTABLISHED(,[A-Z]+)*$)`,
);
/** Names the tables of the old iptables, which nft does not see; only root may read it. */
const LEGACY_TABLES = "/proc/self/net/ip_tables_names";

/** The state of a connection that what answers a guest has. */
const ESTABLISHED = "established";
const GUEST_DEVICES = `${DEVICE_PREFIX}*`;

/**
 * Chains whose policy is to drop, as Docker's is. One with rules that accept all that comes from our devices, and the
 * answers, is none.
 *
 * @throws {HOST_UNSUPPORTED} {HOST_COMMAND_FAILED} {TIMEOUT} {ABORTED}
 */
export async function forwardBlockers(deadline: Deadline): Promise<readonly ForwardBlocker[]> {
  const found: ForwardBlocker[] = [];
  const chains = listed(await run(["nft", "-j", "list", "chains"], deadline)).flatMap(({ chain }) => chain ?? []);
  for (const chain of blockingChains(chains)) {
    const listing = listed(await run(["nft", "-j", "list", "table", chain.family, chain.table], deadline));
    found.push(
      ...blockersIn(
        chain,
        listing.flatMap(({ rule }) => rule ?? []),
      ),
    );
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

/**
 * The chain, unless rules let guests through both ways: its own, or those of Docker's chain for its user if it asks that.
 *
 * @param rules Those of its table.
 */
export function blockersIn(chain: ListedChain, rules: readonly ListedRule[]): readonly ForwardBlocker[] {
  const asksUser = rules.some((rule) => rule.chain === chain.name && jumpsTo(rule.expr ?? [], DOCKER_USER));
  const asked = rules.filter((rule) => rule.chain === chain.name || (asksUser && rule.chain === DOCKER_USER));
  const isOpen =
    asked.some(({ expr = [] }) => acceptsGuests(expr)) && asked.some(({ expr = [] }) => acceptsAnswers(expr));
  return isOpen ? [] : [blockerOf(chain, asksUser ? DOCKER_USER : chain.name)];
}

/** Whether a rule sends every packet to a chain. */
function jumpsTo(rule: readonly Expression[], target: string): boolean {
  const [verdict, ...others] = withoutCounter(rule);
  return others.length === 0 && (verdict?.["jump"] as { target?: string } | undefined)?.target === target;
}

/** Whether a rule accepts whatever comes from our devices. */
export function acceptsGuests(rule: readonly Expression[]): boolean {
  const [match, verdict, ...others] = withoutCounter(rule);
  return others.length === 0 && verdict !== undefined && "accept" in verdict && isDevice(match ?? {}, "iifname");
}

/** Whether a rule accepts the answers that go to our devices, or to all. */
export function acceptsAnswers(rule: readonly Expression[]): boolean {
  const parts = withoutCounter(rule);
  const verdict = parts.at(-1) ?? {};
  if ("vmap" in verdict) return parts.length === 1 && mapsAnswers(verdict["vmap"]);
  const matches = parts.slice(0, -1);
  const [other, ...more] = matches.filter((part) => !isDevice(part, "oifname"));
  if (!("accept" in verdict) || more.length > 0) return false;
  const isForUs = matches.some((part) => isDevice(part, "oifname"));
  if (other === undefined) return isForUs;
  // What states iptables asks for, nft does not tell. About our devices alone, it is the rule of the remedy.
  return hasAnswersState(other) || (isForUs && (other["xt"] as { name?: string } | undefined)?.name === "conntrack");
}

function withoutCounter(rule: readonly Expression[]): readonly Expression[] {
  return rule.filter((part) => !("counter" in part));
}

/** What nft prints of a comparison. */
interface Match {
  readonly left?: { readonly meta?: { readonly key?: string }; readonly ct?: { readonly key?: string } };
  readonly op?: string;
  readonly right?: unknown;
}

function isDevice(part: Expression, key: "iifname" | "oifname"): boolean {
  const { left, op, right } = (part["match"] ?? {}) as Match;
  return left?.meta?.key === key && op === "==" && right === GUEST_DEVICES;
}

/** `ct state established`, be there other states or none. */
function hasAnswersState(part: Expression): boolean {
  const { left, op, right } = (part["match"] ?? {}) as Match;
  const states = (right as { set?: unknown } | undefined)?.set ?? right;
  const hasState = Array.isArray(states) ? states.includes(ESTABLISHED) : states === ESTABLISHED;
  return left?.ct?.key === "state" && (op === "in" || op === "==") && hasState;
}

/** `ct state vmap { established : accept }`, be there other states or none. */
function mapsAnswers(vmap: unknown): boolean {
  const { key, data } = vmap as { key?: Match["left"]; data?: { set?: readonly [unknown, Expression][] } };
  const set = Array.isArray(data?.set) ? data.set : []; // Else the name of a map.
  return key?.ct?.key === "state" && set.some(([state, verdict]) => state === ESTABLISHED && "accept" in verdict);
}

/** @param place The chain of its table that is for rules of the host's user. */
function blockerOf({ family, table, name }: ListedChain, place: string): ForwardBlocker {
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
  const asksUser = lines.includes(`-A FORWARD -j ${DOCKER_USER}`);
  const accepted = lines.flatMap((line) => {
    const [, chain, matches = ""] = /^-A (\S+) (.+) -j ACCEPT$/.exec(line) ?? [];
    return chain === "FORWARD" || (asksUser && chain === DOCKER_USER) ? matches : [];
  });
  const isOpen = accepted.includes(`-i ${DEVICE_PREFIX}+`) && accepted.some((match) => LEGACY_ANSWERS.test(match));
  if (!lines.includes("-P FORWARD DROP") || isOpen) return [];
  return [{ name: `${LEGACY} filter FORWARD`, remedy: byIptables(LEGACY, asksUser ? DOCKER_USER : "FORWARD") }];
}
