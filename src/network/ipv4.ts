// IPv4 networks as numbers.

import { isIPv4 } from "node:net";

/**
 * What no guest reaches, whatever is allowed: this host (RFC 1122, 3.2.1.3), loopback, link-local with its metadata
 * services (RFC 3927), multicast, and the reserved rest (RFC 1112, 4).
 */
export const NEVER_REACHED = ["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4"] as const;

/**
 * What is reached only if it was allowed itself: RFC 1918, shared address space (RFC 6598), IETF assignments (RFC 6890),
 * benchmarking (RFC 2544), and Azure's WireServer, which hands out the machine's configuration.
 */
export const PRIVATE_NETWORKS = [
  "10.0.0.0/8",
  "172.16.0.0/12",
  "192.168.0.0/16",
  "100.64.0.0/10",
  "192.0.0.0/24",
  "198.18.0.0/15",
  "168.63.129.16/32",
] as const;

/** First and last address of a network, as unsigned 32-bit numbers. */
export interface Ipv4Range {
  readonly first: number;
  readonly last: number;
}

/** The range of `a.b.c.d/n`; `undefined` for anything else, IPv6 among it. */
export function parseCidr(text: string): Ipv4Range | undefined {
  const [address = "", prefixText = ""] = text.split("/");
  const prefix = Number(prefixText);
  if (!isIPv4(address) || !/^\d{1,2}$/.test(prefixText) || prefix > 32) return undefined;
  const value = address.split(".").reduce((sum, byte) => sum * 256 + Number(byte), 0);
  const sizeAddresses = 2 ** (32 - prefix);
  const first = Math.floor(value / sizeAddresses) * sizeAddresses;
  return { first, last: first + sizeAddresses - 1 };
}

/** The dotted form of an unsigned 32-bit number. */
export function formatIpv4(value: number): string {
  return [24, 16, 8, 0].map((bits) => (value >>> bits) & 0xff).join(".");
}
