// What the network plan needs to know about this host, read at one moment.

import { readFile } from "node:fs/promises";
import { networkInterfaces } from "node:os";
import { parseResolvConf, type ResolvConf } from "./resolv-conf.js";

/** The host's side of a network plan. */
export interface HostNetwork {
  /** The host's networks as CIDR, loopback left out. */
  readonly networks: readonly string[];
  readonly resolvConf: ResolvConf;
}

/** Reads the host's interfaces and `/etc/resolv.conf`. A host without that file has no resolver. */
export async function readHostNetwork(resolvConfPath = "/etc/resolv.conf"): Promise<HostNetwork> {
  const text = await readFile(resolvConfPath, "utf8").catch(() => "");
  const networks = Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .filter((address) => !address.internal)
    .flatMap((address) => address.cidr ?? []);
  return { networks, resolvConf: parseResolvConf(text) };
}
