// Two network namespaces of a test's own: a "host" and the "outside" behind it. Nothing of this machine's network is
// touched. Root only.

import { execFileSync } from "node:child_process";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Line, Talker } from "../fixtures/talker.js";

const SERVICES = join(import.meta.dirname, "../fixtures/namespace-services.mjs");

/** Both namespaces. */
export interface Namespaces extends AsyncDisposable {
  /** Goes before an argv that is to run on the "host". */
  readonly onHost: readonly string[];
  /** Starts services of test/fixtures/namespace-services.mjs; they end with the namespaces. */
  serve(where: "host" | "outside", services: readonly Service[]): Promise<Talker>;
}

/** One service. */
export interface Service {
  readonly protocol: "tcp" | "udp" | "dns";
  readonly address: string;
  readonly port: number;
  readonly name: string;
}

/**
 * The host has 10.77.0.2 and 198.51.100.2 and its default route to the outside.
 *
 * @param resolvConf Text of the host's `/etc/resolv.conf`.
 * @param outsideAddresses Addresses of the outside.
 */
export function makeNamespaces(resolvConf: string, outsideAddresses: readonly string[]): Namespaces {
  const names = { host: `smolvm-h${process.pid}`, outside: `smolvm-o${process.pid}` };
  const configuration = join("/etc/netns", names.host);
  const talkers: Talker[] = [];
  const ip = (...args: string[]) => execFileSync("ip", args);
  mkdirSync(configuration, { recursive: true });
  writeFileSync(join(configuration, "resolv.conf"), resolvConf);
  for (const name of Object.values(names)) ip("netns", "add", name);
  ip("-n", names.host, "link", "add", "up0", "type", "veth", "peer", "name", "down0", "netns", names.outside);
  for (const name of Object.values(names)) ip("-n", name, "link", "set", "lo", "up");
  for (const address of ["10.77.0.2/24", "198.51.100.2/32"]) ip("-n", names.host, "addr", "add", address, "dev", "up0");
  ip("-n", names.host, "link", "set", "up0", "up");
  ip("-n", names.outside, "addr", "add", "10.77.0.1/24", "dev", "down0");
  for (const address of outsideAddresses) ip("-n", names.outside, "addr", "add", `${address}/32`, "dev", "lo");
  ip("-n", names.outside, "link", "set", "down0", "up");
  ip("-n", names.host, "route", "add", "default", "via", "10.77.0.1");
  return {
    onHost: ["ip", "netns", "exec", names.host],
    serve: async (where, services) => {
      const argv = ["ip", "netns", "exec", names[where], process.execPath, SERVICES, JSON.stringify(services)];
      const talker = new Talker(argv);
      talkers.push(talker);
      await talker.line((line) => line["event"] === "ready");
      return talker;
    },
    [Symbol.asyncDispose]: async () => {
      for (const talker of talkers) await talker.end();
      for (const name of Object.values(names)) ip("netns", "del", name);
      rmSync(configuration, { recursive: true });
    },
  };
}

/** Who came to a service, one line each. */
export function contacts(talker: Talker): Line[] {
  return talker.lines.filter((line) => line["event"] === "contact");
}
