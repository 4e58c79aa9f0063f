// Attacks by what every program can do: connect, send, ping. Also after the guest's root has changed its addresses,
// routes and MAC address.

import { CONTAINER, HOST, NEIGHBOUR, NEVER, PRIVATE, PUBLIC, PUBLIC_IPV6 } from "../support/internet.js";
import type { Attack, Bed, Expected } from "./attack.js";

const ALL = ["tcp", "udp", "ping"] as const;

function each(
  targets: Readonly<Record<string, readonly string[]>>,
  expected: Expected,
  extra: { readonly source?: string; readonly device?: string } = {},
): Attack[] {
  return Object.entries(targets).flatMap(([what, addresses]) =>
    addresses.flatMap((address) =>
      ALL.filter((kind) => kind !== "ping" || !address.includes(":")).map((kind) => ({
        name: `${kind} to ${what} ${address}${extra.source === undefined ? "" : ` from ${extra.source}`}`,
        expected,
        probe: ({ port, text }) => ({ kind, address, port, text, ...extra }),
      })),
    ),
  );
}

/** With the guest as it was configured. */
export function plainAttacks({ factsA, factsB }: Bed): Attack[] {
  const [gateway] = [factsA.gateway];
  return [
    ...each({ "the outside": PUBLIC }, "open"),
    ...each(
      {
        "the host": [HOST.lan, HOST.privateLan, HOST.secondPublic, HOST.bridge],
        "the gateway": [gateway, ...factsA.resolvers.filter((address) => address !== gateway)],
        "the other guest": [factsB.address, factsB.gateway].filter((address) => address !== gateway),
        "a neighbour": [NEIGHBOUR, CONTAINER],
        "a private network": PRIVATE,
        "what nobody reaches": [...NEVER, "224.0.0.251", "255.255.255.255"],
      },
      "closed",
    ),
  ];
}

/** Lines of shell for the guest's root: the host's loopback and networks are said to be behind the gateway. */
export function takeRoutes({ factsA, factsB }: Bed): string {
  const via = `via ${factsA.gateway} dev ${factsA.device} onlink`;
  return [
    "ip address flush dev lo",
    "ip route flush table local dev lo",
    `sysctl -qw net.ipv4.conf.all.route_localnet=1 net.ipv4.conf.${factsA.device}.route_localnet=1`,
    ...["127.0.0.0/8", "192.0.2.0/24", "10.66.0.0/24", "169.254.0.0/16", "240.0.0.0/4", `${factsB.address}/32`].map(
      (network) => `ip route replace ${network} ${via}`,
    ),
  ].join("\n");
}

export function routedAttacks({ factsB }: Bed): Attack[] {
  return each(
    {
      "the host's loopback": ["127.0.0.1", "127.0.0.53", "127.1.2.3"],
      "the host": [HOST.lan, HOST.privateLan],
      "the other guest": [factsB.address],
      "what nobody reaches": NEVER,
    },
    "closed",
  );
}

/** Addresses of others on the guest's own interface. */
export function takeAddresses({ factsA, factsB }: Bed): { add: string; remove: string; taken: readonly string[] } {
  const taken = [factsB.address, HOST.lan, "10.99.0.5", PUBLIC[1], "172.16.63.254"];
  const each = (verb: string) => taken.map((address) => `ip address ${verb} ${address}/32 dev ${factsA.device}`);
  return { add: each("add").join("\n"), remove: each("del").join("\n"), taken };
}

/** With the source address of another. */
export function takenAddressAttacks(bed: Bed): Attack[] {
  return takeAddresses(bed).taken.flatMap((source) =>
    each({ "the outside": [PUBLIC[0]], "the host": [HOST.privateLan] }, "closed", { source }),
  );
}

/** Some of each kind, for after somebody has meddled with the rules. */
export function flushedAttacks({ factsB }: Bed): Attack[] {
  return [
    ...each({ "the outside": [PUBLIC[0]] }, "open"),
    ...each(
      {
        "the host": [HOST.bridge, HOST.secondPublic],
        "the other guest": [factsB.address],
        "a private network": [PRIVATE[0], CONTAINER],
      },
      "closed",
    ),
  ];
}

/** IPv6, which is off, as well as a root can turn it on. */
export function turnIpv6On({ factsA: { device } }: Bed): string {
  return [
    `sysctl -qw net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.${device}.disable_ipv6=0`,
    `ip -6 address replace 2001:db8:77::99/64 dev ${device} nodad`,
    `ip -6 address replace fe80::99/64 dev ${device} nodad`,
    `ip -6 route replace default via fe80::1 dev ${device}`,
    `ip -6 neigh replace fe80::1 lladdr $(ip neigh show dev ${device} | awk '/lladdr/ {print $3; exit}') dev ${device}`,
    `ip -6 neigh replace ${HOST.ipv6} lladdr $(ip neigh show dev ${device} | awk '/lladdr/ {print $3; exit}') dev ${device}`,
  ].join("\n");
}

export function ipv6Attacks({ factsA: { device } }: Bed): Attack[] {
  return each(
    { "the host by IPv6": [HOST.ipv6, "fe80::1", "ff02::1"], "the outside by IPv6": [PUBLIC_IPV6] },
    "closed",
    { device },
  );
}
