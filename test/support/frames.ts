// Ethernet frames as a hostile guest crafts them: just what somebody says they are, right or wrong; and as much reading
// of frames as it takes to tell whose packet was seen.

/** Ethernet types. */
export const ETHER = { ipv4: 0x0800, arp: 0x0806, vlan: 0x8100, ipv6: 0x86dd, qinq: 0x88a8 } as const;
/** IP protocols. */
export const PROTOCOL = { icmp: 1, igmp: 2, ipip: 4, tcp: 6, udp: 17, sixInFour: 41, gre: 47, icmp6: 58, sctp: 132 };
export const BROADCAST_MAC = "ff:ff:ff:ff:ff:ff";
const TCP_SYN = 0x02;
const ECHO_REQUEST = 8;

/** What an IPv4 packet says beside its addresses. */
export interface Ipv4Options {
  readonly ttl?: number;
  /** In units of 8 bytes. */
  readonly fragmentOffset?: number;
  readonly hasMoreFragments?: boolean;
  readonly id?: number;
  /** Padded to whole words. */
  readonly options?: Uint8Array;
}

export interface Ends {
  readonly source: string;
  readonly destination: string;
}

/** An Ethernet frame. `tags` are VLAN tags, outermost first. */
export function frame(
  macs: { readonly source: string; readonly destination: string },
  etherType: number,
  body: Uint8Array,
  tags: readonly { readonly type: number; readonly id: number }[] = [],
): Buffer {
  const words = [...tags.flatMap(({ type, id }) => [type, id]), etherType];
  return Buffer.concat([macBytes(macs.destination), macBytes(macs.source), ...words.map(u16), body]);
}

export function ipv4(ends: Ends, protocol: number, body: Uint8Array, options: Ipv4Options = {}): Buffer {
  const extra = Buffer.from(options.options ?? []);
  const padded = Buffer.concat([extra, Buffer.alloc((4 - (extra.length % 4)) % 4)]);
  const header = Buffer.alloc(20 + padded.length);
  header[0] = 0x40 | (header.length / 4);
  header.writeUInt16BE(header.length + body.length, 2);
  header.writeUInt16BE(options.id ?? 1, 4);
  header.writeUInt16BE((options.hasMoreFragments === true ? 0x2000 : 0) | (options.fragmentOffset ?? 0), 6);
  header[8] = options.ttl ?? 64;
  header[9] = protocol;
  addressBytes(ends.source).copy(header, 12);
  addressBytes(ends.destination).copy(header, 16);
  padded.copy(header, 20);
  header.writeUInt16BE(checksum(header), 10);
  return Buffer.concat([header, body]);
}

export function ipv6(ends: Ends, protocol: number, body: Uint8Array): Buffer {
  const header = Buffer.from([0x60, 0, 0, 0, body.length >> 8, body.length & 255, protocol, 255]);
  return Buffer.concat([header, addressBytes(ends.source), addressBytes(ends.destination), body]);
}

/** A TCP segment, SYN by default. */
export function tcp(ends: Ends, port: number, options: { flags?: number; sourcePort?: number } = {}): Buffer {
  const segment = Buffer.alloc(20);
  segment.writeUInt16BE(options.sourcePort ?? port + 20_000, 0);
  segment.writeUInt16BE(port, 2);
  segment.writeUInt32BE(1_000, 4);
  segment.writeUInt16BE(0x5000 | (options.flags ?? TCP_SYN), 12);
  segment.writeUInt16BE(64_000, 14);
  return withChecksum(ends, PROTOCOL.tcp, segment, 16);
}

export function udp(ends: Ends, port: number, payload: string, sourcePort = port + 20_000): Buffer {
  const header = Buffer.concat([u16(sourcePort), u16(port), u16(8 + payload.length), u16(0)]);
  return withChecksum(ends, PROTOCOL.udp, Buffer.concat([header, Buffer.from(payload, "latin1")]), 6);
}

/** An ICMP message, an echo request by default. */
export function icmp(payload: string | Uint8Array, type = ECHO_REQUEST, code = 0, rest = 0x00010001): Buffer {
  const head = Buffer.alloc(8);
  head[0] = type;
  head[1] = code;
  head.writeUInt32BE(rest, 4);
  const message = Buffer.concat([head, Buffer.from(payload as string, "latin1")]);
  message.writeUInt16BE(checksum(message), 2);
  return message;
}

/** An ICMPv6 message with `body` behind its checksum. */
export function icmp6(ends: Ends, type: number, body: Uint8Array): Buffer {
  return withChecksum(ends, PROTOCOL.icmp6, Buffer.concat([Buffer.from([type, 0, 0, 0]), body]), 2);
}

export function arp(
  operation: "request" | "reply",
  sender: { readonly mac: string; readonly address: string },
  target: { readonly mac?: string; readonly address: string },
): Buffer {
  return Buffer.concat([
    Buffer.from([0, 1, 8, 0, 6, 4, 0, operation === "request" ? 1 : 2]),
    macBytes(sender.mac),
    addressBytes(sender.address),
    macBytes(target.mac ?? "00:00:00:00:00:00"),
    addressBytes(target.address),
  ]);
}

/** A frame, as far as it was understood. */
export interface Seen {
  readonly etherType: number;
  readonly sourceMac: string;
  readonly source?: string;
  readonly destination?: string;
  readonly protocol?: number;
  /** Of the first fragment of TCP and UDP. */
  readonly sourcePort?: number;
  readonly port?: number;
  readonly tcpFlags?: number;
  readonly icmpType?: number;
  /** Of ARP. */
  readonly arp?: { readonly operation: number; readonly senderAddress: string; readonly targetAddress: string };
  readonly bytes: Buffer;
}

/** Reads a frame as it was recorded. */
export function readFrame(hex: string): Seen {
  const bytes = Buffer.from(hex, "hex");
  const seen = { etherType: bytes.readUInt16BE(12), sourceMac: macText(bytes.subarray(6, 12)), bytes };
  if (seen.etherType === ETHER.arp && bytes.length >= 42) {
    const senderAddress = addressText(bytes.subarray(28, 32));
    const targetAddress = addressText(bytes.subarray(38, 42));
    return { ...seen, arp: { operation: bytes.readUInt16BE(20), senderAddress, targetAddress } };
  }
  if (seen.etherType === ETHER.ipv4 && bytes.length >= 34) return { ...seen, ...readIpv4(bytes) };
  if (seen.etherType === ETHER.ipv6 && bytes.length >= 54) {
    const ends = { source: addressText(bytes.subarray(22, 38)), destination: addressText(bytes.subarray(38, 54)) };
    return { ...seen, ...ends, ...readPorts(bytes.readUInt8(20), bytes.subarray(54)) };
  }
  return seen;
}

function readIpv4(bytes: Buffer): Partial<Seen> {
  const ends = { source: addressText(bytes.subarray(26, 30)), destination: addressText(bytes.subarray(30, 34)) };
  const isLaterFragment = (bytes.readUInt16BE(20) & 0x1fff) !== 0;
  const body = bytes.subarray(14 + (bytes.readUInt8(14) & 15) * 4);
  const protocol = bytes.readUInt8(23);
  return { ...ends, protocol, ...(isLaterFragment ? {} : readPorts(protocol, body)) };
}

function readPorts(protocol: number, body: Buffer): Partial<Seen> {
  const isTcp = protocol === PROTOCOL.tcp;
  if (protocol === PROTOCOL.icmp || protocol === PROTOCOL.icmp6) {
    return { protocol, ...(body.length > 0 ? { icmpType: body.readUInt8(0) } : {}) };
  }
  if ((!isTcp && protocol !== PROTOCOL.udp) || body.length < 8) return { protocol };
  const ports = { protocol, sourcePort: body.readUInt16BE(0), port: body.readUInt16BE(2) };
  return isTcp && body.length >= 14 ? { ...ports, tcpFlags: body.readUInt8(13) } : ports;
}

function withChecksum({ source, destination }: Ends, protocol: number, body: Buffer, at: number): Buffer {
  const [from, to] = [addressBytes(source), addressBytes(destination)];
  const length = Buffer.alloc(4);
  length.writeUInt32BE(body.length);
  const pseudo = Buffer.concat([from, to, length, Buffer.from([0, 0, 0, protocol])]);
  body.writeUInt16BE(checksum(Buffer.concat([pseudo, body])), at);
  return body;
}

/** The Internet checksum (RFC 1071). */
function checksum(data: Buffer): number {
  let sum = 0;
  for (let i = 0; i < data.length; i += 2) sum += (data.readUInt8(i) << 8) | (data[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

function u16(value: number): Buffer {
  return Buffer.from([value >> 8, value & 255]);
}

export function macBytes(mac: string): Buffer {
  return Buffer.from(mac.replaceAll(":", ""), "hex");
}

function macText(bytes: Buffer): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join(":");
}

export function addressBytes(address: string): Buffer {
  if (!address.includes(":")) return Buffer.from(address.split(".").map(Number));
  const dotted = /^(.*:)(\d+\.\d+\.\d+\.\d+)$/.exec(address);
  if (dotted !== null) {
    const [, head = "", tail = ""] = dotted;
    const hex = addressBytes(tail).toString("hex");
    return addressBytes(`${head}${hex.slice(0, 4)}:${hex.slice(4)}`);
  }
  const [head = "", tail] = address.split("::");
  const words = (text: string | undefined) => (text === undefined || text === "" ? [] : text.split(":"));
  const middle = new Array<string>(8 - words(head).length - words(tail).length).fill("0");
  return Buffer.concat([...words(head), ...middle, ...words(tail)].map((word) => u16(Number.parseInt(word, 16))));
}

function addressText(bytes: Buffer): string {
  if (bytes.length === 4) return [...bytes].join(".");
  return (bytes.toString("hex").match(/..../g) ?? []).map((word) => Number.parseInt(word, 16).toString(16)).join(":");
}
