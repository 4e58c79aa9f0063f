// An IPv4 address or network that a guest may reach, from its text.

import { isIPv4 } from "node:net";
import { formatIpv4, parseCidr } from "./ipv4.js";

/** A network on one port, or on all of them. */
export interface AllowedNetwork {
  /** E.g. `"203.0.113.0/24"`; a single address has `/32`. */
  readonly cidr: string;
  /** Of TCP and UDP. Without one: every port, and ping. */
  readonly port?: number;
}

/** @param refuse Throws, saying what was expected. */
export function parseAllowedNetwork(text: string, refuse: (expected: string) => never): AllowedNetwork {
  const [address = "", prefix] = text.split("/");
  if (!isIPv4(address)) refuse("an IPv4 address of four numbers from 0 to 255");
  const cidr = prefix === undefined ? `${address}/32` : text;
  const range = parseCidr(cidr);
  if (range === undefined) return refuse("a prefix length from 0 to 32 behind the slash");
  const network = `${formatIpv4(range.first)}/${Number(prefix ?? 32)}`;
  if (formatIpv4(range.first) !== address) refuse(`a network without host bits: ${network}`);
  return { cidr: network };
}
