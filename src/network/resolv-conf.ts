// The host's resolver configuration (resolv.conf(5)). Reading only: what becomes of it is the network plan's matter.

import { isIP } from "node:net";

/** What a `resolv.conf` says, as far as a guest needs it. */
export interface ResolvConf {
  /** Addresses, at most three; IPv6 ones may carry a zone (`fe80::1%eth0`). */
  readonly nameservers: readonly string[];
  /** Search domains, at most six. */
  readonly search: readonly string[];
}

/** MAXNS of resolv.conf(5). */
const NAMESERVER_LIMIT = 3;
/** MAXDNSRCH of older C libraries; newer ones have no limit. */
const SEARCH_LIMIT = 6;
const DOMAIN = /^(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_]([a-z0-9_-]{0,62}))*\.?$/i;

/**
 * Parses the text of a `resolv.conf`. Lines that mean nothing are skipped, as the C library does; the last `search`
 * or `domain` line wins.
 */
export function parseResolvConf(text: string): ResolvConf {
  const nameservers: string[] = [];
  let search: string[] = [];
  for (const line of text.split(/\r?\n/)) {
    const [keyword, ...values] = (line.split(/[#;]/, 1)[0] ?? "").trim().split(/\s+/);
    const [first] = values;
    if (keyword === "nameserver" && first !== undefined && isIP(first) !== 0) nameservers.push(first);
    if (keyword === "search") search = values;
    if (keyword === "domain" && first !== undefined) search = [first];
  }
  return {
    nameservers: [...new Set(nameservers)].slice(0, NAMESERVER_LIMIT),
    search: search.filter((domain) => DOMAIN.test(domain)).slice(0, SEARCH_LIMIT),
  };
}
