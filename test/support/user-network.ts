// The user network without a VM: the network room compiled alone, netguard built from its sources, programs that start
// them inside a test's network namespace, and raw guests that are connected to them.

import { execFileSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { join, resolve } from "node:path";
import { Deadline } from "../../src/base/deadline.js";
import { controlCall } from "../../src/host/control-call.js";
import type { EgressPolicy } from "../../src/network/egress-policy.js";
import { enforcedPolicy } from "../../src/network/network-plan.js";
import { RawGuest } from "../fixtures/raw-guest.js";
import { eventually, type Line, Talker } from "../fixtures/talker.js";
import { type CompiledRooms, compileRooms } from "./compiled-rooms.js";

const ROOT = resolve(import.meta.dirname, "../..");
const FIXTURES = ["start-user-network.mjs", "relay-vmm.mjs"];
/** `nobody`, whom the unprivileged cases run as. */
const NOBODY_UID = 65_534;

/** Makes a starter unprivileged, before its argv. */
export const AS_NOBODY = ["setpriv", `--reuid=${NOBODY_UID}`, `--regid=${NOBODY_UID}`, "--clear-groups"];

/** Starts user networks. */
export class UserNetworks {
  /** Under /tmp and open to all: unprivileged programs run from here too. */
  readonly work: string;
  readonly #rooms: CompiledRooms;
  readonly #onHost: readonly string[];
  readonly #launched: UserNetwork[] = [];

  /** @param onHost Goes before an argv that is to run in the namespace. */
  constructor(onHost: readonly string[]) {
    this.#onHost = onHost;
    this.work = mkdtempSync("/tmp/smolnet-");
    chmodSync(this.work, 0o755);
    this.#rooms = compileRooms();
    chmodSync(this.#rooms.directory, 0o755);
    execFileSync("go", ["build", "-o", join(this.work, "netguard"), "./cmd/netguard"], {
      cwd: join(ROOT, "agent"),
      env: { ...process.env, CGO_ENABLED: "0" },
    });
    for (const name of FIXTURES) copyFileSync(join(ROOT, "test/fixtures", name), join(this.work, name));
    writeFileSync(join(this.work, "resolv.conf"), "nameserver 127.0.0.53\nsearch example.test\n");
  }

  /**
   * Starts a network with the room's own code.
   *
   * @param extra Options of test/fixtures/start-user-network.mjs.
   * @param wrap Goes before the program that does it.
   */
  async launch(extra: Line = {}, wrap: readonly string[] = []): Promise<UserNetwork> {
    const own = mkdtempSync(join(this.work, "vm-"));
    const dir = join(own, "run");
    mkdirSync(dir);
    if (wrap.includes("setpriv")) for (const path of [own, dir]) chownSync(path, NOBODY_UID, NOBODY_UID);
    const guest = await listenAsGuest(join(own, "guest.sock"));
    const options = {
      room: this.#rooms.directory,
      dir,
      guardPath: join(this.work, "netguard"),
      refusalsPath: join(own, "refusals.log"),
      guestSocket: join(own, "guest.sock"),
      resolvConf: join(this.work, "resolv.conf"),
      ...extra,
    };
    const argv = [process.execPath, join(this.work, "start-user-network.mjs"), JSON.stringify(options)];
    const network = new UserNetwork(new Talker([...this.#onHost, ...wrap, ...argv]), own, guest);
    this.#launched.push(network);
    return network;
  }

  /** {@link launch}, and waits until the network is ready or has failed. */
  async start(extra: Line = {}, wrap: readonly string[] = []): Promise<{ network: UserNetwork; result: Line }> {
    const network = await this.launch(extra, wrap);
    return { network, result: await network.starter.line((line) => "ok" in line) };
  }

  /** Stops what still runs. */
  async stopAll(): Promise<void> {
    for (const network of this.#launched.splice(0)) await network.stop();
  }

  /** Waits until all that runs in the namespace, or belongs to a network, are `count` processes. */
  async expectProcesses(count: number): Promise<void> {
    await eventually(() => this.processes().length === count || undefined);
  }

  /** Pids of what runs in the namespace, and of what belongs to a network and has left it. */
  processes(): number[] {
    const inside = execFileSync("ip", ["netns", "pids", this.#onHost[3] ?? ""], { encoding: "utf8" });
    const pids = new Set(inside.split("\n").filter(Boolean).map(Number));
    for (const network of this.#launched) for (const pid of network.processes()) pids.add(pid);
    return [...pids];
  }

  /** Removes every file. */
  remove(): void {
    rmSync(this.work, { recursive: true, force: true });
    this.#rooms[Symbol.dispose]();
  }
}

/** A network that was started, or is about to be. */
export class UserNetwork {
  /** Reports lines with `started`, `ok` and `restarted`. */
  readonly starter: Talker;
  /** Where the network may make its own directory. */
  readonly dir: string;
  readonly #own: string;
  readonly #guest: GuestSide;

  constructor(starter: Talker, own: string, guest: GuestSide) {
    this.starter = starter;
    this.#own = own;
    this.dir = join(own, "run");
    this.#guest = guest;
  }

  /** The guest of the VMM. */
  async guest(): Promise<RawGuest> {
    const started = await this.starter.line((line) => line["started"] === true);
    const { guest } = started["plan"] as { guest: { macAddress: string; addresses: string[] } };
    const [address = ""] = guest.addresses[0]?.split("/") ?? [];
    return new RawGuest(await this.#guest.socket, { mac: guest.macAddress, address });
  }

  /** netguard's pid, of the last one that was started. */
  async guardPid(): Promise<number> {
    await this.starter.line((line) => line["pid"] !== undefined);
    return this.#guardPids().at(-1)!;
  }

  async vmmPid(): Promise<number> {
    return Number((await this.starter.line((line) => line["vmm"] !== undefined))["vmm"]);
  }

  /** Pids of netguard and all that it has started, whatever namespaces they are in. */
  processes(): number[] {
    const groups = new Set(this.#guardPids());
    return readdirSync("/proc")
      .filter((name) => /^\d+$/.test(name))
      .map(Number)
      .filter((pid) => groups.has(groupOf(pid)));
  }

  /** Pids of its passts. */
  passts(): number[] {
    return this.processes().filter((pid) => /passt/.test(executableOf(pid)));
  }

  /** What is in its directory: nothing, or `net`. */
  files(): string[] {
    return readdirSync(this.dir);
  }

  /** What was refused, in short, e.g. `"tcp 10.0.0.1:80 private"`. */
  refusals(): string[] {
    return readFileSync(join(this.#own, "refusals.log"), "utf8")
      .split("\n")
      .filter(Boolean)
      .map((text) => JSON.parse(text) as Line)
      .map(({ protocol, address, port, name, rule }) => `${protocol} ${name ?? address}:${port} ${rule}`);
  }

  /** Starts another netguard. */
  async restart(): Promise<Line> {
    const before = this.starter.lines.length;
    this.starter.child.stdin?.write("restart\n");
    return this.starter.line((line) => "restarted" in line && this.starter.lines.indexOf(line) >= before);
  }

  /** Ends the network, its VMM and its starter. */
  async stop(): Promise<void> {
    const { child } = this.starter;
    if (child.exitCode === null && child.signalCode === null) {
      child.stdin?.write("stop\n");
      await this.starter.line((line) => line["stopped"] === true);
      await this.starter.end();
    }
    this.#guest.close();
  }

  #guardPids(): number[] {
    return this.starter.lines.map((line) => line["pid"]).filter((pid): pid is number => typeof pid === "number");
  }
}

/** Puts another policy in force, as the VM's owner does. */
export async function order(network: UserNetwork, egress: EgressPolicy): Promise<unknown> {
  const host = { networks: [], resolvConf: { nameservers: ["127.0.0.53"], search: [] } };
  const request = { op: "policy", policy: enforcedPolicy(egress, host) };
  return controlCall(join(network.dir, "net/ctl.sock"), request, Deadline.after(10_000));
}

/** The raw guest's end of the way to its VMM. */
interface GuestSide {
  readonly socket: Promise<Socket>;
  close(): void;
}

function listenAsGuest(path: string): Promise<GuestSide> {
  const server: Server = createServer();
  const socket = new Promise<Socket>((take) => server.once("connection", take));
  const close = () => {
    void socket.then((connection) => connection.destroy());
    server.close();
  };
  return new Promise((give, fail) => {
    server.once("error", fail);
    server.listen(path, () => {
      chmodSync(path, 0o777); // For a VMM that is not root.
      give({ socket, close });
    });
  });
}

/** The process group; -1 of what has ended. */
function groupOf(pid: number): number {
  try {
    const [state, , group] = (readFileSync(`/proc/${pid}/stat`, "latin1").split(") ").at(-1) ?? "").split(" ");
    return state === "Z" ? -1 : Number(group);
  } catch {
    return -1;
  }
}

function executableOf(pid: number): string {
  try {
    return readlinkSync(`/proc/${pid}/exe`);
  } catch {
    return "";
  }
}

/** Why user networks cannot be tested here; announces it as a gate. `undefined` when they can. */
export function gateUserNetworks(): string | undefined {
  const reason = whyNot();
  if (reason !== undefined) console.log(`gate: ${process.platform === "linux" ? "root" : "linux"}: ${reason}`);
  return reason;
}

function whyNot(): string | undefined {
  if (process.platform !== "linux") return "network namespaces need Linux";
  if (process.getuid?.() !== 0) return "network namespaces need root";
  for (const [file, flag] of [
    ["ip", "-V"],
    ["passt", "--version"],
    ["go", "version"],
    ["setpriv", "--version"],
  ] as const) {
    try {
      execFileSync(file, [flag], { stdio: "ignore" });
    } catch {
      return `"${file}" does not run`;
    }
  }
  const probe = `smolnet-t${process.pid}`;
  try {
    execFileSync("ip", ["netns", "add", probe], { stdio: "ignore" });
    execFileSync("ip", ["netns", "del", probe], { stdio: "ignore" });
    return undefined;
  } catch {
    return "this system allows no network namespaces";
  }
}
