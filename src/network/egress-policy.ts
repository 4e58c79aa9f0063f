// What a guest may reach, from the texts that users write to the data that the network's programs enforce. Pure.

import { isIPv4 } from "node:net";
import { domainToASCII } from "node:url";
import { invalidConfig } from "../errors/invalid-config.js";
import { type AllowedNetwork, parseAllowedNetwork } from "./allowed-network.js";
import { NEVER_REACHED, parseCidr } from "./ipv4.js";

/**
 * What a guest may begin connections to.
 *
 * - `"open"`: everything but the host, other guests, link-local and private networks
 * - `"off"`: nothing
 * - `{ allow }`: only these. A name (`"api.example.com"`, `"*.example.org"` for every name below it) may have a port, and
 *   means TLS and HTTP on 443 and 80 without one. An IPv4 address or network (`"203.0.113.0/24"`) may have one, too, and
 *   means every port of TCP and UDP, and ping, without. A private network is reached only if it is named itself.
 */
export type EgressPolicy = "open" | "off" | { readonly allow: readonly string[] };

/** A name on one TCP port; `*.` at its beginning is every name below the rest. */
export interface AllowedName {
  /** Lower case, no final dot, IDNA in its ASCII form. */
  readonly name: string;
  readonly port: number;
}

/** A policy as netguard and tapguard read it; see docs/network.md. */
export interface EgressRules {
  readonly mode: "open" | "off" | "allow";
  readonly names: readonly AllowedName[];
  readonly networks: readonly AllowedNetwork[];
}

/** Ports of an allowed name that has none: HTTP and TLS (RFC 9110, 4.2). */
const WEB_PORTS = [443, 80] as const;
/** Longest name and label (RFC 1035, 2.3.4), in bytes. */
const NAME_LIMIT = 253;
const LABEL = /^(?!-)[a-z0-9_-]{1,63}(?<!-)$/;

const EXPECTED =
  "a name (api.example.com, *.example.org) or an IPv4 address or network (203.0.113.0/24), each with :port or without";

/**
 * Turns a policy into what is enforced. An entry that occurs twice counts once.
 *
 * @param field What the policy is called in errors.
 * @throws {INVALID_CONFIG} naming the entry, e.g. `network.egress.allow[3]`.
 */
export function egressRules(policy: EgressPolicy, field = "network.egress"): EgressRules {
  if (typeof policy === "string") return { mode: policy, names: [], networks: [] };
  const names = new Map<string, AllowedName>();
  const networks = new Map<string, AllowedNetwork>();
  for (const [index, entry] of policy.allow.entries()) {
    const refuse: Refuse = (expected) => {
      // What is before an "@" may be a password.
      throw invalidConfig({ field: `${field}.allow[${index}]`, value: entry.replace(/^.*@/s, "...@"), expected });
    };
    const { host, port } = splitPort(entry, refuse);
    if (isNetwork(host)) {
      const network = parseAllowedNetwork(host, refuse);
      if (NEVER_REACHED.some((never) => holds(never, network.cidr))) {
        refuse("a network that guests can reach: not loopback, link-local, multicast or reserved addresses");
      }
      networks.set(`${network.cidr}:${port ?? ""}`, port === undefined ? network : { ...network, port });
    } else {
      const name = checkName(host, refuse);
      const ports = port === undefined ? WEB_PORTS : [port];
      for (const each of ports) names.set(`${name}:${each}`, { name, port: each });
    }
  }
  return { mode: "allow", names: [...names.values()], networks: [...networks.values()] };
}

/** Throws, saying what was expected instead. */
type Refuse = (expected: string) => never;

function splitPort(entry: string, refuse: Refuse): { readonly host: string; readonly port: number | undefined } {
  if (/:\/\//.test(entry)) refuse(`${EXPECTED}, no URL: leave out the scheme and the path`);
  if (entry.includes("@")) refuse(`${EXPECTED}, no user or password`);
  if (/[[\]]/.test(entry) || entry.split(":").length > 2) refuse(`${EXPECTED}; IPv6 is off in guests`);
  const [host = "", portText] = entry.split(":");
  if (portText === undefined) return { host, port: undefined };
  const port = Number(portText);
  if (!/^[1-9][0-9]{0,4}$/.test(portText) || port > 65_535) refuse("a port from 1 to 65535 behind the colon");
  return { host, port };
}

/** Whatever begins as numbers with dots do is meant as an address, and no name ends in a number (RFC 1123, 2.1). */
function isNetwork(host: string): boolean {
  const [address = ""] = host.split("/");
  return isIPv4(address) || /^[0-9.]+$/.test(address);
}

function checkName(host: string, refuse: Refuse): string {
  if (host.includes("/")) refuse(`${EXPECTED}, no path: a name stands for all of its server`);
  if (host === "*" || host === "*.") refuse('a name behind "*.", or egress "open" to allow everything');
  const isWildcard = host.startsWith("*.");
  const rest = isWildcard ? host.slice(2) : host;
  if (rest.includes("*")) refuse('"*" only as the whole first label, as in *.example.org');
  const name = /^[\x21-\x7e]*$/.test(rest) ? rest.toLowerCase() : domainToASCII(rest);
  const labels = name.split(".");
  const isName = name.length <= NAME_LIMIT && labels.every((label) => LABEL.test(label));
  if (!isName || /^[0-9]+$/.test(labels.at(-1) ?? "")) refuse(EXPECTED);
  return isWildcard ? `*.${name}` : name;
}

function holds(outer: string, inner: string): boolean {
  const [a, b] = [parseCidr(outer), parseCidr(inner)];
  return a !== undefined && b !== undefined && a.first <= b.first && b.last <= a.last;
}
