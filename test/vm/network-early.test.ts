// What happens between the moment when the VMM listens and the moment when passt works: passt is held back by a program in
// its place that waits for a file.

import { execFileSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, readdirSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type { RawGuest } from "../fixtures/raw-guest.js";
import { eventually, type Line, pause, type Talker } from "../fixtures/talker.js";
import { contacts, makeNamespaces, type Namespaces } from "../support/namespaces.js";
import { gateUserNetworks, type UserNetwork, UserNetworks } from "../support/user-network.js";

const LOOPBACK_PORT = 8_001;
const [OUTSIDE, GATEWAY] = ["203.0.113.7", "10.187.0.2"];
/** Longer than anything here takes when it works, in milliseconds; an expectation that nothing comes waits for it. */
const QUIET_MS = 300;

const skipReason = gateUserNetworks();

describe.skipIf(skipReason !== undefined)("a user network that is not ready yet", () => {
  let namespaces: Namespaces;
  let networks: UserNetworks;
  let host: Talker;
  let gate: string;
  /** Goes before a starter whose passt waits for the gate. */
  let held: readonly string[];
  /** Likewise, whose passt ends at its start. */
  let broken: readonly string[];

  beforeAll(async () => {
    namespaces = makeNamespaces("nameserver 127.0.0.53\n", [OUTSIDE]);
    networks = new UserNetworks(namespaces.onHost);
    const both = (address: string, port: number, name: string) =>
      (["tcp", "udp"] as const).map((protocol) => ({ protocol, address, port, name }));
    host = await namespaces.serve("host", both("127.0.0.1", LOOPBACK_PORT, "loopback"));
    await namespaces.serve("outside", both(OUTSIDE, 80, "outside"));
    gate = join(networks.work, "gate");
    const passt = execFileSync("sh", ["-c", "command -v passt"]).toString().trim();
    held = standIn("held", `while [ ! -e ${gate} ]; do sleep 0.02; done; exec ${passt} "$@"`);
    broken = standIn("broken", 'echo "it is all too much" >&2; exit 3');
  });

  afterEach(async () => {
    openGate(); // Also after a failure nobody goes on waiting for it.
    await networks.stopAll();
    await networks.expectProcesses(1); // The services alone.
    rmSync(gate, { force: true });
  });

  afterAll(async () => {
    await namespaces?.[Symbol.asyncDispose]();
    networks?.remove();
  });

  /** What goes before a starter that is to find this program in passt's place. */
  function standIn(name: string, script: string): readonly string[] {
    const bin = join(networks.work, name);
    mkdirSync(bin);
    writeFileSync(join(bin, "passt"), `#!/bin/sh\n${script}\n`);
    chmodSync(join(bin, "passt"), 0o755);
    return ["env", `PATH=${bin}:${process.env["PATH"] ?? ""}`];
  }

  function openGate(): void {
    writeFileSync(gate, "");
  }

  /** Starts a network whose passt waits for the gate, and its VMM. */
  async function startHeld(extra: Line = {}): Promise<{ network: UserNetwork; guest: RawGuest }> {
    const network = await networks.launch(extra, held);
    return { network, guest: await network.guest() };
  }

  function ending({ starter }: UserNetwork): Promise<Line> {
    return starter.line((line) => "ok" in line);
  }

  it("is not connected to its VMM before it can judge frames", async () => {
    const { network, guest } = await startHeld();
    const before = contacts(host).length;
    const to = { protocol: "tcp" as const, destination: "127.0.0.1", port: LOOPBACK_PORT };
    const probing = guest.probe(
      [
        { name: "outside", protocol: "udp", destination: OUTSIDE, port: 80, payload: Buffer.from("early") },
        { ...to, name: "tcp" },
        { ...to, name: "udp", protocol: "udp", payload: Buffer.from("x") },
        { ...to, name: "any", destination: "0.0.0.0" },
      ],
      4 * QUIET_MS,
    );
    await pause(QUIET_MS);
    expect(network.starter.lines.some((line) => "ok" in line)).toBe(false);
    expect(sockets("connected")).toEqual([]);
    expect(guest.frames).toEqual([]);
    openGate();
    expect(await ending(network)).toMatchObject({ ok: true });
    expect(sockets("connected")).toHaveLength(1);
    const [sent, ...hostile] = await probing;
    expect(sent?.payload.toString()).toBe("outside:early");
    expect(hostile.map((outcome) => outcome.answer)).toEqual(["rst", "prohibited", "rst"]);
    expect(contacts(host).slice(before)).toEqual([]);
  });

  it("leaves its listening socket to the VMM alone, and its files to no program that it starts", async () => {
    openGate();
    const { network, guest } = await startHeld({ request: { egress: { allow: [OUTSIDE, "api.example.test"] } } });
    await ending(network);
    expect(await guest.resolveGateway(GATEWAY)).toBe(true);
    const [listening = ""] = sockets("listening");
    const holders = networks.processes().filter((pid) => descriptors(pid).includes(`socket:[${listening}]`));
    expect(holders).toEqual([await network.vmmPid()]);
    const guard = await network.guardPid();
    expect(descriptors(guard)).toContainEqual(expect.stringMatching(/refusals\.log$/));
    const children = network.processes().filter((pid) => pid !== guard);
    expect(children).toHaveLength(3); // Two passts, and what made the namespace of the second one.
    for (const pid of children) expect(descriptors(pid)).not.toContainEqual(expect.stringMatching(/\.log$/));
  });

  it("outlives its starter, and then still becomes ready", async () => {
    const { network, guest } = await startHeld();
    network.starter.child.kill("SIGKILL");
    await eventually(() => network.starter.child.signalCode ?? undefined);
    openGate();
    await eventually(() => (guest.frames.length > 0 ? true : void guest.resolveGateway(GATEWAY, 0)));
  });

  it("ends when its VMM has gone before", async () => {
    const { network, guest } = await startHeld();
    guest.close();
    await eventually(() => (sockets("listening").length === 0 ? true : undefined));
    openGate();
    expect(await ending(network)).toMatchObject({ ok: false, code: "NETWORK_FAILED" });
    expect(network.files()).toEqual([]);
    await networks.expectProcesses(2); // The services and the starter.
  });

  it("takes a VMM that comes late, even if passt was killed before", async () => {
    const network = await networks.launch({ hasNoVmm: true });
    // It is made when passt works.
    await eventually(() => existsSync(join(network.dir, "net/ctl.sock")) || undefined);
    const [killed = 0] = network.passts();
    process.kill(killed, "SIGKILL");
    await eventually(() => network.passts().find((pid) => pid !== killed));
    expect(network.starter.lines.some((line) => "ok" in line)).toBe(false);
    network.starter.child.stdin?.write("vmm\n");
    const guest = await network.guest();
    await eventually(() => (guest.frames.length > 0 ? true : void guest.resolveGateway(GATEWAY, 0)));
    expect(await ending(network)).toMatchObject({ ok: true });
  });

  it.each([
    ["TIMEOUT", { timeoutMs: QUIET_MS }],
    ["ABORTED", { abortAfterMs: QUIET_MS }],
  ])("fails with %s while it waits for passt, and leaves nothing", async (code, extra) => {
    const { network, guest } = await startHeld(extra);
    expect(await ending(network)).toMatchObject({ ok: false, code });
    expect(network.files()).toEqual([]);
    guest.close();
    await networks.expectProcesses(2); // The services and the starter.
  });

  it("says how netguard ended when it is killed, and leaves nothing", async () => {
    const { network } = await startHeld();
    process.kill(await network.guardPid(), "SIGKILL");
    const result = await ending(network);
    expect(result).toMatchObject({ ok: false, code: "NETWORK_FAILED", details: { signal: "SIGKILL" } });
    expect(network.files()).toEqual([]);
  });

  it("says what passt said when it ends at its start", async () => {
    const { network, result } = await networks.start({}, broken);
    expect(result).toMatchObject({ ok: false, code: "NETWORK_FAILED", details: { exitCode: 1 } });
    expect(result).toHaveProperty("details.log", expect.stringContaining("it is all too much"));
    expect(network.files()).toEqual([]);
  });

  it("that nobody waits for keeps no program, and goes on without", async () => {
    const network = await networks.launch({ isLeft: true, timeoutMs: 600_000 });
    expect(await eventually(() => network.starter.child.exitCode ?? undefined)).toBe(0);
    expect(network.starter.lines.map((line) => Object.keys(line)[0])).toEqual(["vmm", "started"]);
    const guest = await network.guest();
    await eventually(() => (guest.frames.length > 0 ? true : void guest.resolveGateway(GATEWAY, 0)));
    expect(readdirSync(join(network.dir, "net")).sort()).toEqual(["ctl.sock", "network.log", "vmm.sock"]);
  });

  it("that nobody waits for harms no program when it fails, and leaves nothing", async () => {
    const network = await networks.launch({ isLeft: true, timeoutMs: 600_000 }, broken);
    expect(await eventually(() => network.starter.child.exitCode ?? undefined)).toBe(0);
    expect(network.starter.lines.map((line) => Object.keys(line)[0])).toEqual(["vmm", "started"]);
    expect(network.files()).toEqual([]);
  });

  /** Inodes of the unix sockets between a VMM and netguard, as far as the VMM has made them. */
  function sockets(kind: "listening" | "connected"): string[] {
    const argv = [...namespaces.onHost.slice(1), "cat", "/proc/net/unix"];
    const lines = execFileSync(namespaces.onHost[0] ?? "", argv, { encoding: "utf8" }).split("\n");
    // The fourth field has SO_ACCEPTCON of a socket that listens; inode and path are the last ones.
    return lines.flatMap((line) => {
      const [, , , flags = "", , , inode = "", path = ""] = line.trim().split(/\s+/);
      const isListening = (Number.parseInt(flags, 16) & 0x10000) !== 0;
      return /\/net\/vmm\./.test(path) && isListening === (kind === "listening") ? [inode] : [];
    });
  }
});

/** What a process holds: paths, and inodes of sockets. */
function descriptors(pid: number): string[] {
  return readdirSync(`/proc/${pid}/fd`).map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`));
}
