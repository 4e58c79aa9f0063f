// What the tests of TAP networks work with: a program that makes them in the host namespace, and guests that are network
// namespaces behind real TAP devices. No VM is booted.

import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type CompiledRooms, compileRooms } from "../support/compiled-rooms.js";
import type { Internet } from "../support/internet.js";
import type { Guest } from "../support/internet-guest.js";
import { NetServer, type Packet, type Service } from "../support/internet-tool.js";
import { LineChild } from "../support/line-child.js";
import { ToolUser } from "../support/tool-user.js";
import { runTool } from "./run-tool.js";

const FIXTURES = join(import.meta.dirname, "../fixtures");
/** Whoever would run the VMM. */
export const VMM_UID = 65_534;
const GUEST_DEVICE = "eth0";

/** A policy as the network's programs get it. */
export interface Policy {
  readonly mode: "open" | "off" | "allow";
  readonly names: readonly { readonly name: string; readonly port: number }[];
  readonly networks: readonly { readonly cidr: string; readonly port?: number }[];
}

export const OPEN: Policy = { mode: "open", names: [], networks: [] };
export const OFF: Policy = { mode: "off", names: [], networks: [] };

export function allow(networks: Policy["networks"], namePorts: readonly number[] = []): Policy {
  return { mode: "allow", names: namePorts.map((port) => ({ name: "name.example.test", port })), networks };
}

/** What a set-up answers. */
export interface Addresses {
  readonly index: number;
  readonly device: string;
  readonly gateway: string;
  readonly guest: string;
  readonly logGroup: number;
}

export interface Owner {
  readonly stateDir: string;
  readonly vmId: string;
}

/** Everything that a test file needs beside the internet; gone at the end of the scope. */
export class TapBed implements AsyncDisposable {
  readonly internet: Internet;
  /** The leases' directory, and a state directory below it. */
  readonly work: string;
  readonly #rooms: CompiledRooms;
  #open: AsyncDisposable[] = [];
  #driver: LineChild | undefined;

  constructor(internet: Internet) {
    this.internet = internet;
    this.#rooms = compileRooms();
    this.work = mkdtempSync(join(tmpdir(), "smolvm-tap-"));
    mkdirSync(this.stateDir);
    const files = [join(FIXTURES, "tap-pump/main.go")];
    const env = { ...process.env, CGO_ENABLED: "0", GOTOOLCHAIN: "local", GOPROXY: "off", GOFLAGS: "-mod=mod" };
    execFileSync("go", ["build", "-o", this.pumpPath, ...files], { cwd: this.work, env });
  }

  get stateDir(): string {
    return join(this.work, "state");
  }

  get pumpPath(): string {
    return join(this.work, "tap-pump");
  }

  /** One more program that makes networks. @param wrap Goes before it, inside the namespace. */
  async driver(
    options: { readonly leases?: number } = {},
    wrap: readonly string[] = [],
    env: NodeJS.ProcessEnv = process.env,
  ): Promise<LineChild> {
    const argv = [process.execPath, join(FIXTURES, "tap-driver.mjs"), this.#rooms.directory, join(this.work, "leases")];
    const child = await LineChild.start([...this.internet.onHost, ...wrap, ...argv, JSON.stringify(options)], env);
    this.#open.push(child);
    return child;
  }

  /** A call of test/fixtures/tap-driver.mjs, in a program that lasts as long as this. */
  async call<T>(name: string, ...args: readonly unknown[]): Promise<T> {
    this.#driver ??= await this.driver();
    return this.#driver.ask<T>({ call: name, args });
  }

  owner(vmId: string): Owner {
    return { stateDir: this.stateDir, vmId };
  }

  /** What a set-up is asked for; a VM's MAC address is made from its number. */
  request(vmId: string, extra: Readonly<Record<string, unknown>> = {}): Readonly<Record<string, unknown>> {
    return {
      owner: this.owner(vmId),
      macAddress: macOf(vmId),
      policy: OPEN,
      ownerUid: VMM_UID,
      hostNetworks: [],
      ...extra,
    };
  }

  setUp(vmId: string, extra: Readonly<Record<string, unknown>> = {}): Promise<Addresses> {
    return this.call("setUp", this.request(vmId, extra));
  }

  /** A guest with a TAP network, up and running. */
  async guest(vmId: string, extra: Readonly<Record<string, unknown>> = {}): Promise<NamespaceGuest> {
    const addresses = await this.setUp(vmId, extra);
    const guest = await NamespaceGuest.start(this, addresses, macOf(vmId));
    this.#open.push(guest);
    return guest;
  }

  /** Runs nft in the host namespace. @returns Its stdout. */
  nft(...args: string[]): string {
    return this.internet.run("nft", ...args);
  }

  /** Ends guests and programs, and forgets all leases, rules and settings: what follows begins with an empty host. */
  async reset(): Promise<void> {
    await this.#end();
    this.nft("flush", "ruleset");
    for (const { ifname } of JSON.parse(this.internet.ip("-j", "link", "show")) as { ifname: string }[]) {
      if (ifname.startsWith("svm")) this.internet.ip("link", "del", ifname);
    }
    // The value has to change for the kernel to reset all devices.
    this.internet.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.ip_forward=0");
    rmSync(join(this.work, "leases"), { recursive: true, force: true });
    rmSync(this.stateDir, { recursive: true, force: true });
    mkdirSync(this.stateDir);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#end();
    rmSync(this.work, { recursive: true, force: true });
    this.#rooms[Symbol.dispose]();
  }

  async #end(): Promise<void> {
    for (const one of this.#open.reverse()) await one[Symbol.asyncDispose]();
    this.#open = [];
    this.#driver = undefined;
  }
}

/** The MAC address of a test's VM. */
export function macOf(vmId: string): string {
  return `02:00:00:00:00:${Buffer.from(vmId).subarray(0, 1).toString("hex")}`;
}

let namespaces = 0;

/** A guest that is a namespace: what tests need of a VM's root, under the same names. */
export class NamespaceGuest extends ToolUser implements AsyncDisposable {
  readonly addresses: Addresses;
  readonly namespace: string;
  readonly mac: string;
  readonly #pump: LineChild;
  readonly #toolPath: string;
  readonly #servers: NetServer[] = [];

  private constructor(addresses: Addresses, mac: string, parts: { namespace: string; pump: LineChild; tool: string }) {
    super();
    this.addresses = addresses;
    this.mac = mac;
    this.namespace = parts.namespace;
    this.#pump = parts.pump;
    this.#toolPath = parts.tool;
  }

  static async start(bed: TapBed, addresses: Addresses, mac: string): Promise<NamespaceGuest> {
    const namespace = `svmnet-g-${process.pid}-${namespaces++}`;
    execFileSync("ip", ["netns", "add", namespace]);
    const { device, guest, gateway } = addresses;
    const argv = [bed.pumpPath, device, namespace, GUEST_DEVICE, mac, String(VMM_UID)];
    const pump = await LineChild.start([...bed.internet.onHost, ...argv]);
    const lines = [
      "link set lo up",
      `address add ${guest}/30 dev ${GUEST_DEVICE}`,
      `link set ${GUEST_DEVICE} up`,
      `route add default via ${gateway}`,
    ];
    execFileSync("ip", ["-n", namespace, "-batch", "-"], { input: `${lines.join("\n")}\n` });
    return new NamespaceGuest(addresses, mac, { namespace, pump, tool: bed.internet.tool.path });
  }

  /** Runs a line of shell that must work. @returns Its stdout. */
  sh(line: string): Promise<string> {
    return Promise.resolve(execFileSync("ip", [...this.#inside, "sh", "-ec", line], { encoding: "utf8" }).trim());
  }

  async serve(services: readonly Service[]): Promise<NetServer> {
    const server = await NetServer.start({ path: this.#toolPath } as never, ["ip", ...this.#inside], { services });
    this.#servers.push(server);
    return server;
  }

  /** Sees what comes in from now on. @returns To end it, and get what came. */
  async watch(device: string): Promise<() => Promise<Packet[]>> {
    const server = await this.serve([{ kind: "sniff", name: "watch", device }]);
    return async () => (await server.packets("watch")).filter(({ isOutgoing }) => !isOutgoing);
  }

  /** For what was written for VMs; it calls nothing that is not here. */
  get asGuest(): Guest {
    return this as unknown as Guest;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const server of this.#servers) await server[Symbol.asyncDispose]();
    await this.#pump.end();
    execFileSync("ip", ["netns", "del", this.namespace]);
  }

  get #inside(): string[] {
    return ["netns", "exec", this.namespace];
  }

  protected tool<T>(command: string, argument: unknown): Promise<T> {
    const argv = [...this.#inside, this.#toolPath, command, "-"];
    return runTool<T>(["ip", ...argv], JSON.stringify(argument));
  }
}
