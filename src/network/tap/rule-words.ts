// Short words for what our rules say often. Everything is in `table inet smolvm` unless it says otherwise.

import { formatIpv4 } from "../ipv4.js";
import { DEVICE_PREFIX } from "./addresses.js";
import type { Ipv4Ranges } from "./ipv4-ranges.js";
import type { NftCommand, NftElements, NftExpression, NftStatement, NftVerdict } from "./nft-command.js";

/** Name of our two tables. */
export const TABLE = "smolvm";
export const INET = { family: "inet", table: TABLE } as const;
export const ARP = { family: "arp", table: TABLE } as const;

/** Every TAP of ours, also one that no rule knows. */
const ANY_DEVICE = `${DEVICE_PREFIX}*`;

export const iifname: NftExpression = { meta: { key: "iifname" } };
export const oifname: NftExpression = { meta: { key: "oifname" } };
export const l4proto: NftExpression = { meta: { key: "l4proto" } };
export const originalSource: NftExpression = { ct: { key: "ip saddr", dir: "original" } };
export const originalDestination: NftExpression = { ct: { key: "ip daddr", dir: "original" } };

export const fromDevice: NftStatement = is(iifname, ANY_DEVICE);
export const toDevice: NftStatement = is(oifname, ANY_DEVICE);
export const notFromDevice: NftStatement = isNot(iifname, ANY_DEVICE);
export const notToDevice: NftStatement = isNot(oifname, ANY_DEVICE);
/** Sent by who began the connection, and part of one that conntrack knows. */
export const isOriginal: NftStatement = is({ ct: { key: "direction" } }, "original");
export const isReply: NftStatement = is({ ct: { key: "direction" } }, "reply");
/** An ICMP error about a packet of the connection. */
export const isRelated: NftStatement = isOneOf({ ct: { key: "state" } }, ["related"]);
/** Somebody's rules have changed where it goes. */
export const isRedirected: NftStatement = isOneOf({ ct: { key: "status" } }, ["dnat"]);

export const accept: NftVerdict = { accept: null };
export const drop: NftVerdict = { drop: null };

export function is(left: NftExpression, right: NftExpression): NftStatement {
  return { match: { op: "==", left, right } };
}

export function isNot(left: NftExpression, right: NftExpression): NftStatement {
  return { match: { op: "!=", left, right } };
}

/** For a field of flags: at least one of them is set. */
export function isOneOf(left: NftExpression, flags: readonly string[]): NftStatement {
  return { match: { op: "in", left, right: flags } };
}

/** All of them together are an element of a named set. */
export function isIn(set: string, ...keys: readonly NftExpression[]): NftStatement {
  const [key] = keys;
  return is(keys.length === 1 && key !== undefined ? key : { concat: keys }, `@${set}`);
}

export function header(protocol: string, field: string): NftExpression {
  return { payload: { protocol, field } };
}

export function jump(target: string): NftVerdict {
  return { jump: { target } };
}

export function goTo(target: string): NftVerdict {
  return { goto: { target } };
}

/** @param ranges At least one: a set cannot be empty. */
export function addressSet(ranges: Ipv4Ranges): NftExpression {
  return { set: rangeElements(ranges) };
}

export function rangeElements(ranges: Ipv4Ranges): NftExpression[] {
  return ranges.map(({ first, last }) =>
    first === last ? formatIpv4(first) : { range: [formatIpv4(first), formatIpv4(last)] as const },
  );
}

/**
 * All rules of a chain, in order, as commands. The first one's comment says how many they are, so that whoever looks sees
 * whether some are missing (agent/internal/sentinel), after another text where there is one.
 */
export function rulesOf(
  chain: string,
  rules: readonly (readonly NftStatement[])[],
  { table = INET, comment }: { readonly table?: typeof INET | typeof ARP; readonly comment?: string } = {},
): NftCommand[] {
  return rules.map((expr, index) => {
    const noted = index === 0 ? { comment: sealOf(rules.length, comment) } : {};
    return { add: { rule: { ...table, chain, expr, ...noted } } };
  });
}

/** Comment of the first of so many rules. */
export function sealOf(count: number, text?: string): string {
  return `${text === undefined ? "" : `${text}, `}rules: ${count}`;
}

export function elementsOf(
  name: string,
  elem: NftElements["elem"],
  table: typeof INET | typeof ARP = INET,
): { readonly element: NftElements } {
  return { element: { ...table, name, elem } };
}
