// IPv4 networks as numbers.

import { isIPv4 } from "node:net";

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
