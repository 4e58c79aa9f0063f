// Attacks by whole Ethernet frames: what no ordinary program of a guest sends, but its root can.

import { arp, BROADCAST_MAC, ETHER, frame, icmp, icmp6, ipv4, ipv6, PROTOCOL, tcp, udp } from "../support/frames.js";
import { CONTAINER, HOST, NEIGHBOUR, NEVER, PRIVATE, PUBLIC, PUBLIC_IPV6, ROUTER } from "../support/internet.js";
import type { Attack, Bed, Expected, Sign } from "./attack.js";

type Body = (ends: { source: string; destination: string }, sign: Sign) => { protocol: number; body: Buffer };

const BODIES: Readonly<Record<string, Body>> = {
  tcp: (ends, { port }) => ({ protocol: PROTOCOL.tcp, body: tcp(ends, port) }),
  udp: (ends, { port, text }) => ({ protocol: PROTOCOL.udp, body: udp(ends, port, text) }),
  ping: (_ends, { port, text }) => ({ protocol: PROTOCOL.icmp, body: icmp(text, 8, 0, (port << 16) | 1) }),
};

interface Way {
  readonly source?: string;
  readonly macs?: { readonly source?: string; readonly destination?: string };
  readonly tags?: readonly { readonly type: number; readonly id: number }[];
}

function macsOf({ factsA }: Bed, macs: Way["macs"] = {}): { source: string; destination: string } {
  return { source: macs.source ?? factsA.mac, destination: macs.destination ?? factsA.gatewayMac };
}

/** An attack for each kind of body. */
function crafted(bed: Bed, what: string, destination: string, expected: Expected, way: Way = {}): Attack[] {
  const ends = { source: way.source ?? bed.factsA.address, destination };
  return Object.entries(BODIES).map(([kind, make]) => ({
    name: `${kind} frame to ${what} ${destination} from ${ends.source}${describe(way)}`,
    expected,
    frames: (sign) => {
      const { protocol, body } = make(ends, sign);
      return [frame(macsOf(bed, way.macs), ETHER.ipv4, ipv4(ends, protocol, body), way.tags)];
    },
  }));
}

function describe({ macs, tags }: Way): string {
  const parts = [
    ...(macs?.source === undefined ? [] : [`MAC ${macs.source}`]),
    ...(macs?.destination === undefined ? [] : [`to MAC ${macs.destination}`]),
    ...(tags ?? []).map(({ type, id }) => `VLAN ${type.toString(16)} ${id}`),
  ];
  return parts.length === 0 ? "" : `, ${parts.join(", ")}`;
}

/** Frames that any program's packets could be; they prove that frames get out. */
export function ordinaryFrames(bed: Bed): Attack[] {
  return crafted(bed, "the outside", PUBLIC[0], "seen");
}

/** Under a policy that allows the third public address, and a name on its ports. */
export function policyFrames(bed: Bed): Attack[] {
  const from = { source: bed.factsA.address, destination: PUBLIC[0] };
  const pieces = ({ port, text }: Sign) => {
    const whole = udp(from, port, text.padEnd(64));
    return [
      ipv4(from, PROTOCOL.udp, whole.subarray(0, 16), { hasMoreFragments: true, id: port }),
      ipv4(from, PROTOCOL.udp, whole.subarray(16), { fragmentOffset: 2, id: port }),
    ];
  };
  // As if these connections were there, or as if they were answers.
  const flags = [0x01, 0x04, 0x10, 0x12, 0x18, 0x29, 0x00].map(
    (bits): Attack => ({
      name: `TCP flags ${bits} to ${PUBLIC[0]}`,
      expected: "closed",
      frames: ({ port }) => [
        frame(macsOf(bed), ETHER.ipv4, ipv4(from, PROTOCOL.tcp, tcp(from, port, { flags: bits }))),
      ],
    }),
  );
  const disguised = [53, 80, 443].map(
    (sourcePort): Attack => ({
      name: `UDP from port ${sourcePort} to ${PUBLIC[0]}`,
      expected: "closed",
      frames: ({ port, text }) => [
        frame(macsOf(bed), ETHER.ipv4, ipv4(from, PROTOCOL.udp, udp(from, port, text, sourcePort))),
      ],
    }),
  );
  return [
    ...crafted(bed, "what is allowed", PUBLIC[2], "seen"),
    ...[PUBLIC[0], PUBLIC[1], PUBLIC[4]].flatMap((address) => crafted(bed, "what is not", address, "closed")),
    ...flags,
    ...disguised,
    {
      name: `fragments to ${PUBLIC[0]}`,
      expected: "closed",
      frames: (sign) => pieces(sign).map((packet) => frame(macsOf(bed), ETHER.ipv4, packet)),
    },
  ];
}

/** Every address that might mean the host or another guest, from every address that might be believed. */
export function spoofedToHost(bed: Bed): Attack[] {
  const { factsA, factsB } = bed;
  const destinations = [
    ...["127.0.0.1", "127.0.0.53", "0.0.0.0", HOST.lan, HOST.privateLan, HOST.bridge, factsA.gateway],
    ...[factsB.address, factsB.gateway, "255.255.255.255", "224.0.0.1"],
  ];
  const sources = [undefined, "127.0.0.1", "0.0.0.0", HOST.lan, factsB.address, PUBLIC[1]];
  return unique(destinations).flatMap((destination) =>
    sources.flatMap((source) =>
      crafted(bed, "the host", destination, "closed", source === undefined ? {} : { source }),
    ),
  );
}

/** To the outside with an address that is another's, and to what is closed with the guest's own. */
export function spoofedToOutside(bed: Bed): Attack[] {
  const { factsA, factsB } = bed;
  const sources = [
    ...[factsB.address, factsA.gateway, HOST.lan, ROUTER, PUBLIC[1], PUBLIC[0], "127.0.0.1", "0.0.0.0", "10.9.9.9"],
    ...["224.0.0.1", "255.255.255.255"],
  ];
  return [
    ...unique(sources).flatMap((source) => crafted(bed, "the outside", PUBLIC[0], "closed", { source })),
    ...[...PRIVATE, ...NEVER, NEIGHBOUR, CONTAINER].flatMap((destination) =>
      crafted(bed, "what is closed", destination, "closed"),
    ),
  ];
}

/** MAC addresses of others, and VLAN tags. */
export function strangeLinks(bed: Bed): Attack[] {
  const { factsA, factsB } = bed;
  const sources = [factsB.mac, factsA.gatewayMac, "00:00:00:00:00:00", BROADCAST_MAC, "01:00:5e:00:00:01"].filter(
    (mac) => mac !== factsA.mac,
  );
  const destinations = [BROADCAST_MAC, factsB.mac, "01:00:5e:00:00:01", "33:33:00:00:00:01"];
  const tags = [
    [{ type: ETHER.vlan, id: 0 }],
    [{ type: ETHER.vlan, id: 5 }],
    [
      { type: ETHER.qinq, id: 0 },
      { type: ETHER.vlan, id: 0 },
    ],
    [
      { type: ETHER.vlan, id: 1 },
      { type: ETHER.vlan, id: 1 },
    ],
  ];
  return [
    ...sources.flatMap((source) => crafted(bed, "the outside", PUBLIC[0], "closed", { macs: { source } })),
    ...destinations.flatMap((destination) =>
      [HOST.lan, factsB.address, factsA.gateway].flatMap((target) =>
        crafted(bed, "the host", target, "closed", { macs: { destination } }),
      ),
    ),
    ...tags.flatMap((list) =>
      [HOST.lan, factsB.address, PRIVATE[0]].flatMap((target) =>
        crafted(bed, "what is closed", target, "closed", { tags: list }),
      ),
    ),
  ];
}

/** Fragments, options, and protocols other than TCP, UDP and ping. */
export function strangePackets(bed: Bed): Attack[] {
  const { factsA, factsB } = bed;
  const closed = [HOST.lan, factsA.gateway, factsB.address, PRIVATE[0]];
  const one = (name: string, packets: (sign: Sign) => readonly Buffer[]): Attack => ({
    name,
    expected: "closed",
    frames: (sign) => packets(sign).map((packet) => frame(macsOf(bed), ETHER.ipv4, packet)),
  });
  const from = (destination: string) => ({ source: factsA.address, destination });
  const fragments = closed.flatMap((destination) => [
    one(`UDP in two fragments to ${destination}`, ({ port, text }) => {
      const whole = udp(from(destination), port, text.padEnd(64));
      return [
        ipv4(from(destination), PROTOCOL.udp, whole.subarray(0, 16), { hasMoreFragments: true, id: port }),
        ipv4(from(destination), PROTOCOL.udp, whole.subarray(16), { fragmentOffset: 2, id: port }),
      ];
    }),
    one(`a SYN in tiny fragments to ${destination}`, ({ port }) => {
      const whole = tcp(from(destination), port);
      return [
        ipv4(from(destination), PROTOCOL.tcp, whole.subarray(0, 8), { hasMoreFragments: true, id: port }),
        ipv4(from(destination), PROTOCOL.tcp, whole.subarray(8), { fragmentOffset: 1, id: port }),
      ];
    }),
    one(`a later fragment alone to ${destination}`, ({ port, text }) => [
      ipv4(from(destination), PROTOCOL.udp, Buffer.from(text), { fragmentOffset: 4, id: port }),
    ]),
  ]);
  // Loose source route, strict source route, record route (RFC 791); the next hop is what is closed.
  const options = closed.flatMap((hop) =>
    [0x83, 0x89].map((option) =>
      one(`source route ${option.toString(16)} by ${PUBLIC[0]} to ${hop}`, ({ port, text }) => {
        const route = Buffer.from([option, 7, 4, ...hop.split(".").map(Number)]);
        return [ipv4(from(PUBLIC[0]), PROTOCOL.udp, udp(from(hop), port, text), { options: route })];
      }),
    ),
  );
  const record = Buffer.from([0x07, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0]);
  const recorded = closed.map((destination) =>
    one(`record route to ${destination}`, ({ port, text }) => [
      ipv4(from(destination), PROTOCOL.udp, udp(from(destination), port, text), { options: record }),
    ]),
  );
  return [...fragments, ...options, ...recorded, ...strangeProtocols(bed, one)];
}

function strangeProtocols(
  { factsA, factsB }: Bed,
  one: (name: string, packets: (sign: Sign) => readonly Buffer[]) => Attack,
): Attack[] {
  const from = (destination: string) => ({ source: factsA.address, destination });
  const inner = (destination: string, { port, text }: Sign) =>
    ipv4({ source: HOST.lan, destination }, PROTOCOL.udp, udp({ source: HOST.lan, destination }, port, text));
  const gre = Buffer.from([0, 0, 8, 0]);
  return [HOST.lan, PUBLIC[0], factsB.address].flatMap((destination) => [
    one(`IP in IP to ${destination}`, (sign) => [
      ipv4(from(destination), PROTOCOL.ipip, inner("127.0.0.1", sign)),
      ipv4(from(destination), PROTOCOL.ipip, inner(factsB.address, sign)),
    ]),
    one(`GRE to ${destination}`, (sign) => [
      ipv4(from(destination), PROTOCOL.gre, Buffer.concat([gre, inner(HOST.lan, sign)])),
    ]),
    one(`IPv6 in IP to ${destination}`, ({ port, text }) => {
      const ends = { source: "2001:db8:77::99", destination: HOST.ipv6 };
      return [ipv4(from(destination), PROTOCOL.sixInFour, ipv6(ends, PROTOCOL.udp, udp(ends, port, text)))];
    }),
    ...[PROTOCOL.sctp, PROTOCOL.igmp, 50, 51, 103, 136, 255].map((protocol) =>
      one(`protocol ${protocol} to ${destination}`, ({ text }) => [
        ipv4(from(destination), protocol, Buffer.from(text.padEnd(32))),
      ]),
    ),
    ...[0, 3, 5, 9, 13, 17].map((type) =>
      one(`ICMP type ${type} to ${destination}`, (sign) => [
        ipv4(
          from(destination),
          PROTOCOL.icmp,
          icmp(Buffer.concat([inner(factsB.address, sign)]), type, 0, (10 << 24) | 1),
        ),
      ]),
    ),
  ]);
}

/** IPv6 in every shape: it is off. */
export function ipv6Frames(bed: Bed): Attack[] {
  const sources = ["fe80::99", "2001:db8:77::99", "::1", "::", HOST.ipv6];
  const destinations = [
    ...["::1", "::", HOST.ipv6, "fe80::1", "ff02::1", "ff02::2", PUBLIC_IPV6, "::ffff:127.0.0.1", "64:ff9b::7f00:1"],
  ];
  const six = (name: string, body: (sign: Sign) => Buffer, destination = bed.factsA.gatewayMac): Attack => ({
    name,
    expected: "closed",
    frames: (sign) => [frame(macsOf(bed, { destination }), ETHER.ipv6, body(sign))],
  });
  const pairs = destinations.flatMap((destination) =>
    sources.map((source) => ({ ends: { source, destination }, way: `to ${destination} from ${source}` })),
  );
  return [
    ...pairs.flatMap(({ ends, way }) => [
      six(`IPv6 TCP ${way}`, ({ port }) => ipv6(ends, PROTOCOL.tcp, tcp(ends, port))),
      six(`IPv6 UDP ${way}`, ({ port, text }) => ipv6(ends, PROTOCOL.udp, udp(ends, port, text))),
    ]),
    ...["::1", HOST.ipv6, "ff02::1", PUBLIC_IPV6].map((destination) => {
      const ends = { source: "fe80::99", destination };
      const echo = (sign: Sign) => icmp6(ends, 128, Buffer.from(`\0\x01\0\x01${sign.text}`, "latin1"));
      return six(`IPv6 ping to ${destination}`, (sign) => ipv6(ends, PROTOCOL.icmp6, echo(sign)), "33:33:00:00:00:01");
    }),
  ];
}

/** What a host would believe of its network, were it told by a guest: routers, neighbours, redirects. */
export function rumours({ factsA, factsB }: Bed): Buffer[] {
  const to = (destination: string) => ({ source: factsA.mac, destination });
  const all = { source: "fe80::99", destination: "ff02::1" };
  const prefix = Buffer.concat([
    Buffer.from("0304 40c0 00278d00 00093a80 00000000".replaceAll(" ", ""), "hex"),
    Buffer.from("fd00666600000000", "hex"),
    Buffer.alloc(8),
  ]);
  const routerAdvertisement = Buffer.concat([
    Buffer.from("40000e1000000000000000000000", "hex").subarray(0, 12),
    prefix,
  ]);
  const claim = (address: string, operation: "request" | "reply") =>
    [BROADCAST_MAC, factsA.gatewayMac].map((mac) =>
      frame(to(mac), ETHER.arp, arp(operation, { mac: factsA.mac, address }, { address, mac: factsA.gatewayMac })),
    );
  return [
    frame(to("33:33:00:00:00:01"), ETHER.ipv6, ipv6(all, PROTOCOL.icmp6, icmp6(all, 134, routerAdvertisement))),
    ...[factsA.gateway, factsB.address, factsB.gateway, ROUTER, HOST.lan, NEIGHBOUR].flatMap((address) => [
      ...claim(address, "request"),
      ...claim(address, "reply"),
    ]),
    // The guest's own address with another's MAC address.
    frame(
      to(BROADCAST_MAC),
      ETHER.arp,
      arp("reply", { mac: factsB.mac, address: factsA.address }, { address: factsA.gateway, mac: factsA.gatewayMac }),
    ),
    ...[ROUTER, PUBLIC[0]].map((router) =>
      frame(
        to(factsA.gatewayMac),
        ETHER.ipv4,
        ipv4(
          { source: router, destination: HOST.lan },
          PROTOCOL.icmp,
          icmp(
            ipv4({ source: HOST.lan, destination: PUBLIC[2] }, PROTOCOL.udp, Buffer.alloc(8)),
            5,
            1,
            Number.parseInt(
              factsA.address
                .split(".")
                .map((n) => Number(n).toString(16).padStart(2, "0"))
                .join(""),
              16,
            ),
          ),
        ),
      ),
    ),
  ];
}

/** Who has addresses that are none of this guest's business? */
export function nosyQuestions({ factsA, factsB }: Bed): { address: string; frame: Buffer }[] {
  return [factsB.address, factsB.gateway, HOST.lan, HOST.privateLan, HOST.bridge, ROUTER, "127.0.0.1"]
    .filter((address) => address !== factsA.gateway)
    .map((address) => ({
      address,
      frame: frame(
        { source: factsA.mac, destination: BROADCAST_MAC },
        ETHER.arp,
        arp("request", { mac: factsA.mac, address: factsA.address }, { address }),
      ),
    }));
}

function unique(list: readonly string[]): string[] {
  return [...new Set(list)];
}
