// Where the packets of a guest may go by themselves, from its policy, as sets of addresses. Names are not here: what
// they allow goes through tapguard's proxy.

import type { EgressRules } from "../egress-policy.js";
import { type Ipv4Range, NEVER_REACHED, PRIVATE_NETWORKS, parseCidr } from "../ipv4.js";
import { TAP_POOL } from "./addresses.js";
import { type Ipv4Ranges, mergeRanges, subtractRanges } from "./ipv4-ranges.js";

/** No policy opens these; the guests' own pool is among them. */
export const NEVER_RANGES: Ipv4Ranges = mergeRanges([...NEVER_REACHED, TAP_POOL].flatMap(rangesOf));
/** Only an entry that lies wholly in one of these networks opens a part of it. */
export const PRIVATE_RANGES: Ipv4Ranges = mergeRanges(PRIVATE_NETWORKS.flatMap(rangesOf));

const EVERYTHING: Ipv4Range = { first: 0, last: 2 ** 32 - 1 };

/** What a policy "allow" lets through by address. */
export interface DirectDestinations {
  /** Every port of TCP and UDP, and ping. */
  readonly anyPort: Ipv4Ranges;
  /** Only these ports of TCP and UDP. */
  readonly byPort: readonly { readonly ports: readonly number[]; readonly ranges: Ipv4Ranges }[];
}

/** @param networks The entries of a policy that are networks. */
export function directDestinations(networks: EgressRules["networks"]): DirectDestinations {
  const ofPort = new Map<number | undefined, Ipv4Range[]>();
  for (const { cidr, port } of networks) {
    const opened = ofPort.get(port) ?? [];
    ofPort.set(port, opened);
    opened.push(...rangesOf(cidr).flatMap(openedBy));
  }
  const anyPort = mergeRanges(ofPort.get(undefined) ?? []);
  ofPort.delete(undefined);
  return { anyPort, byPort: groupPorts(ofPort as Map<number, Ipv4Range[]>) };
}

/** Every address that a guest with this policy may exchange packets with. */
export function reachableRanges(rules: EgressRules): Ipv4Ranges {
  if (rules.mode === "off") return [];
  if (rules.mode === "open") return subtractRanges([EVERYTHING], [...NEVER_RANGES, ...PRIVATE_RANGES]);
  const { anyPort, byPort } = directDestinations(rules.networks);
  return mergeRanges([...anyPort, ...byPort.flatMap(({ ranges }) => ranges)]);
}

function openedBy(entry: Ipv4Range): Ipv4Ranges {
  const isPrivate = PRIVATE_NETWORKS.flatMap(rangesOf).some(
    (network) => network.first <= entry.first && entry.last <= network.last,
  );
  return subtractRanges([entry], isPrivate ? NEVER_RANGES : [...NEVER_RANGES, ...PRIVATE_RANGES]);
}

/** Ports with the same networks become one rule. */
function groupPorts(ofPort: ReadonlyMap<number, readonly Ipv4Range[]>): DirectDestinations["byPort"] {
  const groups = new Map<string, { ports: number[]; ranges: Ipv4Ranges }>();
  for (const [port, unsorted] of ofPort) {
    const ranges = mergeRanges(unsorted);
    if (ranges.length === 0) continue;
    const key = JSON.stringify(ranges);
    const group = groups.get(key) ?? { ports: [], ranges };
    groups.set(key, group);
    group.ports.push(port);
  }
  return [...groups.values()];
}

/** Policies are checked where they are made; what is no network here opens nothing. */
function rangesOf(cidr: string): Ipv4Ranges {
  const range = parseCidr(cidr);
  return range === undefined ? [] : [range];
}
