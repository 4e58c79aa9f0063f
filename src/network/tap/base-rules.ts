// The part of the rules that all VMs share. Whatever comes from a device of ours, or goes to one, and is not let through
// here is dropped, so a device that the sets do not know is closed. An accept ends only our own chain: what other tables
// refuse stays refused. Nothing here touches packets that have nothing to do with a device of ours, but for the guard.

import { createHash } from "node:crypto";
import { NEVER_RANGES, PRIVATE_RANGES } from "./destinations.js";
import type { NftChain, NftCommand } from "./nft-command.js";
import * as words from "./rule-words.js";
import {
  ARP,
  accept,
  drop,
  elementsOf,
  goTo,
  header,
  INET,
  is,
  isIn,
  isNot,
  jump,
  rulesOf,
  TABLE,
} from "./rule-words.js";

/** Before fragments are put together (-400, NF_IP_PRI_CONNTRACK_DEFRAG of linux/netfilter_ipv4.h). */
const BEFORE_DEFRAGMENTATION = -450;
/** Just before others change destinations (-100, NF_IP_PRI_NAT_DST): the first to do so wins. */
const BEFORE_OTHERS_NAT = -101;
/** Before the chains that administrators write (0, NF_IP_PRI_FILTER). */
const BEFORE_OTHERS_FILTERS = -5;
const SOURCE_NAT = 100;

/** Names of the sets and maps that hold one element for each VM; the key begins with the device's name. */
export const SETS = {
  /** device . guest's MAC . guest's address: what it may send as. */
  guests: "guests",
  /** device . guest's address. */
  addresses: "addresses",
  /** The host's own addresses on the devices. */
  gateways: "gateways",
  /** In the ARP table: device . MAC . MAC . guest's address . gateway. */
  neighbours: "neighbours",
  /** Verdict maps from the device to a chain of its VM's. */
  forwardOf: "forward_of",
  inputOf: "input_of",
  namesOf: "names_of",
  rateOf: "rate_of",
  /** Devices of others, on which we made the host forward. */
  guarded: "guarded",
  never: "never",
  private: "private",
} as const;

/** Chain that answers with a refusal: TCP with a reset, everything else with ICMP 3/13. */
export const REFUSE = "refuse";
/** Chain that accepts what an address on every port means; it returns for everything else. */
export const DIRECT = "direct";

/** The chain whose first rule says in its comment which rules these are. */
export const MARKED_CHAIN = "forward";

/** IPv4 header without options, in words of four bytes. */
const PLAIN_HEADER_WORDS = 5;
/** "More fragments" and the offset, in the field that holds both (RFC 791, 3.1). */
const FRAGMENT_BITS = 0x3fff;
/** SYN and RST, and SYN alone (RFC 9293, 3.1). */
const SYN_AND_RST = 0x06;
const SYN = 0x02;

/**
 * Declares tables, sets and chains, and writes the chains anew; elements of VMs stay. It mends what somebody has
 * flushed, and does the same every time.
 *
 * @param guarded Devices on which we made the host forward.
 */
export function baseRules(guarded: readonly string[]): readonly NftCommand[] {
  return [...declarations(), ...flushes(), ...constants(guarded), ...inetRules(BASE_MARK), ...arpRules()];
}

/** Removes our tables, whether they are there or not. */
export function removalOfTables(): readonly NftCommand[] {
  return (["inet", "arp"] as const).flatMap((family) => [
    { add: { table: { family, name: TABLE } } },
    { delete: { table: { family, name: TABLE } } },
  ]);
}

const CHAINS: readonly Omit<NftChain, "family" | "table">[] = [
  { name: REFUSE },
  { name: DIRECT },
  { name: "known_sender" },
  { name: "from_guest" },
  { name: "to_host" },
  { name: "early", type: "filter", hook: "prerouting", prio: BEFORE_DEFRAGMENTATION, policy: "accept" },
  { name: "names", type: "nat", hook: "prerouting", prio: BEFORE_OTHERS_NAT, policy: "accept" },
  { name: "input", type: "filter", hook: "input", prio: BEFORE_OTHERS_FILTERS, policy: "accept" },
  { name: "forward", type: "filter", hook: "forward", prio: BEFORE_OTHERS_FILTERS, policy: "accept" },
  { name: "output", type: "filter", hook: "output", prio: BEFORE_OTHERS_FILTERS, policy: "accept" },
  { name: "source_nat", type: "nat", hook: "postrouting", prio: SOURCE_NAT, policy: "accept" },
];
const ARP_CHAIN = { ...ARP, name: "input", type: "filter", hook: "input", prio: 0, policy: "accept" } as const;

function declarations(): NftCommand[] {
  const set = (name: string, type: string | readonly string[]): NftCommand => ({
    add: { set: { ...INET, name, type } },
  });
  const ranges = (name: string): NftCommand => ({
    add: { set: { ...INET, name, type: "ipv4_addr", flags: ["interval"] } },
  });
  const verdicts = (name: string): NftCommand => ({
    add: { map: { ...INET, name, type: "ifname", map: "verdict" } },
  });
  return [
    { add: { table: { family: "inet", name: TABLE } } },
    { add: { table: { family: "arp", name: TABLE } } },
    set(SETS.guests, ["ifname", "ether_addr", "ipv4_addr"]),
    set(SETS.addresses, ["ifname", "ipv4_addr"]),
    set(SETS.gateways, "ipv4_addr"),
    set(SETS.guarded, "ifname"),
    ranges(SETS.never),
    ranges(SETS.private),
    ...[SETS.forwardOf, SETS.inputOf, SETS.namesOf, SETS.rateOf].map(verdicts),
    {
      add: {
        set: { ...ARP, name: SETS.neighbours, type: ["ifname", "ether_addr", "ether_addr", "ipv4_addr", "ipv4_addr"] },
      },
    },
    ...CHAINS.map((chain): NftCommand => ({ add: { chain: { ...INET, ...chain } } })),
    { add: { chain: ARP_CHAIN } },
  ];
}

function flushes(): NftCommand[] {
  return [
    ...CHAINS.map(({ name }): NftCommand => ({ flush: { chain: { ...INET, name } } })),
    { flush: { chain: { ...ARP, name: ARP_CHAIN.name } } },
    { flush: { set: { ...INET, name: SETS.guarded } } },
  ];
}

function constants(guarded: readonly string[]): NftCommand[] {
  return [
    { add: elementsOf(SETS.never, words.rangeElements(NEVER_RANGES)) },
    { add: elementsOf(SETS.private, words.rangeElements(PRIVATE_RANGES)) },
    ...(guarded.length === 0 ? [] : [{ add: elementsOf(SETS.guarded, guarded) }]),
  ];
}

function inetRules(mark: string): NftCommand[] {
  const { iifname, oifname } = words;
  const destination = header("ip", "daddr");
  return [
    ...rulesOf("early", [
      [words.notFromDevice, accept],
      [isIn(SETS.guests, iifname, header("ether", "saddr"), header("ip", "saddr")), goTo("known_sender")],
      [drop],
    ]),
    ...rulesOf("known_sender", [
      [isNot(header("ip", "hdrlength"), PLAIN_HEADER_WORDS), drop],
      [isNot({ "&": [header("ip", "frag-off"), FRAGMENT_BITS] }, 0), drop],
      [vmap(SETS.rateOf)],
    ]),
    ...rulesOf("names", [[words.fromDevice, is(words.l4proto, "tcp"), vmap(SETS.namesOf)]]),
    ...rulesOf("input", [
      // Not "goto": should somebody flush the chain, nothing is let through.
      [words.fromDevice, jump("to_host")],
      [words.fromDevice, drop],
      // The neighbours of the host are no guests: its end of a TAP is not for them.
      [isNot(iifname, "lo"), isIn(SETS.gateways, destination), drop],
    ]),
    ...rulesOf("to_host", [
      // An answer is one only on a connection to this very guest: the ICMP error that a guest sends about somebody
      // else's connection belongs to that connection, too, and has its direction.
      [words.isReply, isIn(SETS.addresses, iifname, words.originalDestination), accept],
      [words.isRelated, drop],
      [isIn(SETS.addresses, iifname, words.originalSource), vmap(SETS.inputOf)],
      [drop],
    ]),
    ...rulesOf(
      MARKED_CHAIN,
      [
        [words.fromDevice, jump("from_guest")],
        [words.fromDevice, drop],
        [words.toDevice, words.isReply, isIn(SETS.addresses, oifname, words.originalSource), accept],
        [words.toDevice, drop],
        [isNot(iifname, `@${SETS.guarded}`), accept],
        [words.isReply, accept],
        // Of what others forward from outside, for example to a container's published port.
        [words.isRedirected, accept],
        [drop],
      ],
      { comment: mark },
    ),
    ...rulesOf("from_guest", [
      [is({ "&": [header("tcp", "flags"), SYN_AND_RST] }, SYN), clampSegments()],
      [words.isOriginal, isIn(SETS.addresses, iifname, words.originalSource), vmap(SETS.forwardOf)],
      [drop],
    ]),
    ...rulesOf("output", [
      [words.notToDevice, accept],
      // Neither IPv6 nor what the host's services tell all their neighbours.
      [isIn(SETS.addresses, oifname, destination), accept],
      [drop],
    ]),
    ...rulesOf("source_nat", [
      [isIn(SETS.addresses, iifname, header("ip", "saddr")), words.notToDevice, { masquerade: null }],
    ]),
    ...rulesOf(DIRECT, [
      [is(words.l4proto, { set: ["tcp", "udp"] }), accept],
      [is(header("icmp", "type"), "echo-request"), accept],
      [words.isRelated, is(words.l4proto, "icmp"), accept],
    ]),
    ...rulesOf(REFUSE, [
      [is(words.l4proto, "tcp"), { reject: { type: "tcp reset" } }],
      [{ reject: { type: "icmpx", expr: "admin-prohibited" } }],
    ]),
  ];
}

function arpRules(): NftCommand[] {
  const keys = [
    header("ether", "saddr"),
    header("arp", "saddr ether"),
    header("arp", "saddr ip"),
    header("arp", "daddr ip"),
  ];
  return rulesOf(
    ARP_CHAIN.name,
    [[words.notFromDevice, accept], [isIn(SETS.neighbours, words.iifname, ...keys), accept], [drop]],
    { table: ARP },
  );
}

function vmap(map: string) {
  return { vmap: { key: words.iifname, data: `@${map}` } };
}

/** Servers behind a narrow link learn of it from the handshake, for those that never hear of it by ICMP. */
function clampSegments() {
  return {
    mangle: { key: { "tcp option": { name: "maxseg", field: "size" } }, value: { rt: { key: "mtu" } } },
  } as const;
}

/** Tells the rules of one version of this file from those of another, for a host that has both. */
export const BASE_MARK = `smolvm ${createHash("sha256")
  .update(JSON.stringify([declarations(), inetRules(""), arpRules()]))
  .digest("hex")
  .slice(0, 16)}`;
