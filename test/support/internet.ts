// An internet of a test's own: a "host" namespace, in which SmolVM runs, and an "outside" namespace behind it which
// owns every address that a guest may try. Nothing of this machine's network is touched. Root only.

import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "vitest";
import { buildInternetTool, type InternetTool, NetServer, type Service, type Zone } from "./internet-tool.js";
import { eventually } from "./wait.js";

/** The host's addresses; the first is where its default route begins, `bridge` where its containers are. */
export const HOST = {
  lan: "192.0.2.10",
  privateLan: "10.66.0.2",
  secondPublic: "198.51.100.200",
  bridge: "172.30.0.1",
  ipv6: "2001:db8:77::2",
} as const;
/** Next to the host on its links: the router, a neighbour in the private LAN, and a container. */
export const ROUTER = "192.0.2.1";
export const NEIGHBOUR = "10.66.0.7";
export const CONTAINER = "172.30.0.5";
/** Outside, for all to reach. */
export const PUBLIC = ["93.184.216.34", "203.0.113.7", "198.51.100.7", "1.2.3.4", "8.8.8.8"] as const;
/** Outside, but private (RFC 1918 and others): reached only where a policy says so. */
export const PRIVATE = [
  ...["10.9.9.9", "192.168.77.7", "172.20.0.7", "100.64.0.9", "198.18.0.9", "192.0.0.9"],
  "168.63.129.16",
] as const;
/** Outside, but for no guest, whatever a policy says. */
export const NEVER = ["169.254.169.254", "240.0.0.9"] as const;
/** Outside, by IPv6. */
export const PUBLIC_IPV6 = "2001:db8:66::1";

/** Both namespaces answer TCP and UDP on these ports of all their addresses: each attack has a port of its own. */
export const FIRST_PORT = 20_000;
export const PORT_COUNT = 900;
/** On the host's loopback alone, and on its LAN address alone. */
export const LOOPBACK_PORT = 8_001;
export const LAN_PORT = 8_010;
/** Where `perf` services are, on both sides. */
export const PERF_PORT = 5_201;
/** Services of the outside on fixed ports, beside HTTP, TLS and DNS. */
export const SMTP_PORT = 25;

const LINK = { host: "up0", outside: "down0" } as const;
/** To the containers, which are outside as well. */
const BRIDGE = { host: "br0", outside: "ctr0" } as const;
const NAME_START = "svmnet";

export interface InternetOptions {
  /** Text of the host's `/etc/resolv.conf`; default: its own resolver, `example.test` searched. */
  readonly resolvConf?: string;
  /** What its DNS servers know at first. */
  readonly zone?: Zone;
  readonly hostServices?: readonly Service[];
  readonly outsideServices?: readonly Service[];
}

export class Internet implements AsyncDisposable {
  readonly tool: InternetTool;
  /** Services of the host; sniffers `lo`, `up0` and `br0`. */
  readonly host: NetServer;
  /** Services of the outside; sniffer `down0`. */
  readonly outside: NetServer;
  /** Namespace names. */
  readonly names: Names;
  /** Go before an argv that is to run there. */
  readonly onHost: readonly string[];
  readonly onOutside: readonly string[];

  private constructor(names: Names, tool: InternetTool, [host, outside]: readonly [NetServer, NetServer]) {
    this.names = names;
    this.tool = tool;
    this.host = host;
    this.outside = outside;
    this.onHost = inNamespace(names.host);
    this.onOutside = inNamespace(names.outside);
  }

  static async create(options: InternetOptions = {}): Promise<Internet> {
    removeAbandoned();
    const names = nextNames();
    const started: AsyncDisposable[] = [];
    const tool = buildInternetTool();
    try {
      makeNamespaces(names, options.resolvConf ?? "nameserver 127.0.0.53\nsearch example.test\n");
      const zone = options.zone ?? {};
      const host = await NetServer.start(tool, inNamespace(names.host), {
        services: [...HOST_SERVICES, ...(options.hostServices ?? [])],
        zone,
      });
      started.push(host);
      const outside = await NetServer.start(tool, inNamespace(names.outside), {
        services: [...OUTSIDE_SERVICES, ...(options.outsideServices ?? [])],
        zone,
        ca: tool.directory,
      });
      return new Internet(names, tool, [host, outside]);
    } catch (error) {
      for (const one of started) await one[Symbol.asyncDispose]();
      removeNamespaces(names);
      tool[Symbol.dispose]();
      throw error;
    }
  }

  /** The test authority's certificate, as a file of this machine. */
  get caPath(): string {
    return join(this.tool.directory, "ca.pem");
  }

  /** Rewrites the host's `/etc/resolv.conf`, for programs that run already as well. */
  setResolvConf(text: string): void {
    writeFileSync(join("/etc/netns", this.names.host, "resolv.conf"), text);
  }

  /** Runs `ip` in the host namespace. @returns Its stdout. */
  ip(...args: string[]): string {
    return execFileSync("ip", ["-n", this.names.host, ...args], { encoding: "utf8" });
  }

  /** Runs `ip` outside. @returns Its stdout. */
  ipOutside(...args: string[]): string {
    return execFileSync("ip", ["-n", this.names.outside, ...args], { encoding: "utf8" });
  }

  /** Runs a program in the host namespace. @returns Its stdout. */
  run(...argv: string[]): string {
    const [file = "", ...args] = [...this.onHost, ...argv];
    return execFileSync(file, args, { encoding: "utf8" });
  }

  /** Waits until nothing is left of the networks of VMs: the host is as it was made. Call it before the end. */
  async expectNothingLeft(): Promise<void> {
    const look = () => this.#leftovers();
    const isEmpty = (found: Leftovers) => Object.values(found).every((list) => list.length === 0);
    // Rules go after their devices, and a helper that was told to end may take a moment.
    await eventually(() => (isEmpty(look()) ? true : undefined)).catch(() => {});
    expect(look()).toEqual({ devices: [], rules: [], forwarding: [], processes: [] });
  }

  #leftovers(): Leftovers {
    const links = JSON.parse(this.ip("-j", "link")) as { ifname: string }[];
    const own: readonly string[] = ["lo", LINK.host, BRIDGE.host];
    const forwarding = this.run("sh", "-c", "cd /proc/sys/net/ipv4/conf; grep -l 1 */forwarding || true");
    const pids = execFileSync("ip", ["netns", "pids", this.names.host], { encoding: "utf8" });
    return {
      devices: links.map(({ ifname }) => ifname).filter((name) => !own.includes(name)),
      rules: hasNft()
        ? this.run("nft", "list", "ruleset")
            .split("\n")
            .filter((line) => /svm[0-9]/.test(line))
        : [],
      forwarding: forwarding.split("\n").filter((line) => line !== ""),
      processes: pids.split("\n").filter((pid) => HELPERS.test(commandName(pid))),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.host[Symbol.asyncDispose]();
    await this.outside[Symbol.asyncDispose]();
    removeNamespaces(this.names);
    this.tool[Symbol.dispose]();
  }
}

/** Programs of a VM's network. */
const HELPERS = /^(netguard|passt|tapguard|portd)/;

/** What VMs have left. */
interface Leftovers {
  readonly devices: readonly string[];
  readonly rules: readonly string[];
  readonly forwarding: readonly string[];
  readonly processes: readonly string[];
}

function commandName(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, "utf8");
  } catch {
    return "";
  }
}

function hasNft(): boolean {
  try {
    execFileSync("nft", ["--version"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

interface Names {
  readonly host: string;
  readonly outside: string;
}

const everywhere = (name: string): Service[] =>
  ["0.0.0.0", "::"].flatMap((address) =>
    (["tcp", "udp"] as const).map((kind) => ({ kind, address, port: FIRST_PORT, count: PORT_COUNT, name })),
  );

const HOST_SERVICES: readonly Service[] = [
  { kind: "sniff", device: "lo", name: "lo" },
  { kind: "sniff", device: LINK.host, name: "up0" },
  { kind: "sniff", device: BRIDGE.host, name: "br0" },
  ...everywhere("host"),
  { kind: "tcp", address: "127.0.0.1", port: LOOPBACK_PORT, name: "loopback" },
  { kind: "udp", address: "127.0.0.1", port: LOOPBACK_PORT, name: "loopback" },
  { kind: "tcp", address: "::1", port: LOOPBACK_PORT, name: "loopback" },
  { kind: "tcp", address: HOST.lan, port: LAN_PORT, name: "lan" },
  { kind: "dns", address: "127.0.0.53", port: 53, name: "resolver" },
];

const OUTSIDE_SERVICES: readonly Service[] = [
  { kind: "sniff", device: LINK.outside, name: "down0" },
  ...everywhere("outside"),
  ...[80, 8_080].map((port) => ({ kind: "http" as const, address: "0.0.0.0", port, name: "web" })),
  ...[443, 8_443].map((port) => ({ kind: "tls" as const, address: "0.0.0.0", port, name: "web" })),
  { kind: "udp", address: "0.0.0.0", port: 443, name: "quic" },
  { kind: "tcp", address: "0.0.0.0", port: SMTP_PORT, name: "smtp" },
  { kind: "dns", address: "0.0.0.0", port: 53, name: "outside-dns" },
  { kind: "perf", address: "0.0.0.0", port: PERF_PORT, name: "perf" },
];

let internets = 0;

function nextNames(): Names {
  const id = `${process.pid}-${internets++}`;
  return { host: `${NAME_START}-h-${id}`, outside: `${NAME_START}-o-${id}` };
}

function inNamespace(name: string): string[] {
  return ["ip", "netns", "exec", name];
}

function makeNamespaces(names: Names, resolvConf: string): void {
  const ip = (...args: string[]) => execFileSync("ip", args);
  const batch = (name: string, lines: readonly string[]) =>
    execFileSync("ip", ["-n", name, "-batch", "-"], { input: `${lines.join("\n")}\n` });
  mkdirSync(join("/etc/netns", names.host), { recursive: true });
  writeFileSync(join("/etc/netns", names.host, "resolv.conf"), resolvConf);
  ip("netns", "add", names.host);
  ip("netns", "add", names.outside);
  for (const { host, outside } of [LINK, BRIDGE]) {
    ip("-n", names.host, "link", "add", host, "type", "veth", "peer", "name", outside, "netns", names.outside);
  }
  batch(names.host, [
    "link set lo up",
    ...[`${HOST.lan}/24`, `${HOST.privateLan}/24`, `${HOST.secondPublic}/32`].map(on(LINK.host)),
    `${on(LINK.host)(`${HOST.ipv6}/64`)} nodad`,
    `link set ${LINK.host} up`,
    on(BRIDGE.host)(`${HOST.bridge}/24`),
    `link set ${BRIDGE.host} up`,
    `route add default via ${ROUTER}`,
    "route add ::/0 via 2001:db8:77::1",
  ]);
  // As systemd has it everywhere: else no unprivileged program, passt among them, may ping.
  execFileSync("ip", ["netns", "exec", names.host, "sysctl", "-qw", "net.ipv4.ping_group_range=0 2147483647"]);
  batch(names.outside, [
    "link set lo up",
    ...[`${ROUTER}/24`, `${NEIGHBOUR}/24`].map(on(LINK.outside)),
    ...[...PUBLIC, ...PRIVATE, ...NEVER].map((address) => on("lo")(`${address}/32`)),
    `${on(LINK.outside)("2001:db8:77::1/64")} nodad`,
    `${on("lo")(`${PUBLIC_IPV6}/128`)} nodad`,
    `link set ${LINK.outside} up`,
    on(BRIDGE.outside)(`${CONTAINER}/24`),
    `link set ${BRIDGE.outside} up`,
  ]);
}

function on(device: string): (address: string) => string {
  return (address) => `address add ${address} dev ${device}`;
}

function removeNamespaces(names: Names): void {
  for (const name of Object.values(names)) {
    try {
      execFileSync("ip", ["netns", "del", name], { stdio: "ignore" });
    } catch {
      // It was not made.
    }
  }
  rmSync(join("/etc/netns", names.host), { recursive: true, force: true });
}

/** Removes what a test run that was killed has left. */
function removeAbandoned(): void {
  const found = existsSync("/run/netns") ? readdirSync("/run/netns") : [];
  for (const name of found.filter((one) => one.startsWith(`${NAME_START}-`))) {
    const [, , pid = ""] = name.split("-");
    if (existsSync(`/proc/${pid}`)) continue;
    removeNamespaces({ host: name, outside: name });
  }
}

/** Why there can be no internet here; announces it as a gate. `undefined` when there can. */
export function gateInternet(): string | undefined {
  const reason = whyNot();
  if (reason !== undefined) console.log(`gate: ${process.platform === "linux" ? "root" : "linux"}: ${reason}`);
  return reason;
}

function whyNot(): string | undefined {
  if (process.platform !== "linux") return "network namespaces need Linux";
  if (process.getuid?.() !== 0) return "network namespaces need root";
  return undefined;
}
