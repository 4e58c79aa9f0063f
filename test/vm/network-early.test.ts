// What happens between the moment when the network's socket takes a VMM and the moment when passt works: passt is held
// back by a program in its place that waits for a file.

import { execFileSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, readdirSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type { RawGuest } from "../fixtures/raw-guest.js";
import { eventually, type Line, pause, type Talker } from "../fixtures/talker.js";
import { contacts, makeNamespaces, type Namespaces } from "../support/namespaces.js";
import { attach, gateUserNetworks, UserNetworks } from "../support/user-network.js";

const [LOOPBACK_PORT, BUSY_PORT] = [8_001, 8_090];
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

  beforeAll(async () => {
    namespaces = makeNamespaces("nameserver 127.0.0.53\n", [OUTSIDE]);
    networks = new UserNetworks(namespaces.onHost);
    const both = (address: string, port: number, name: string) =>
      (["tcp", "udp"] as const).map((protocol) => ({ protocol, address, port, name }));
    host = await namespaces.serve("host", [
      ...both("127.0.0.1", LOOPBACK_PORT, "loopback"),
      { protocol: "tcp", address: "127.0.0.1", port: BUSY_PORT, name: "busy" },
    ]);
    await namespaces.serve("outside", both(OUTSIDE, 80, "outside"));
    gate = join(networks.work, "gate");
    const passt = execFileSync("sh", ["-c", "command -v passt"]).toString().trim();
    held = standIn("held", `while [ ! -e ${gate} ]; do sleep 0.02; done; exec ${passt} "$@"`);
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

  async function startHeld(extra: Line = {}): Promise<{ starter: Talker; guest: RawGuest; started: Line }> {
    const starter = networks.launch(extra, held);
    const started = await starter.line((line) => line["started"] === true);
    return { starter, guest: await attach(started), started };
  }

  it("takes a VMM, and keeps its frames until it can judge them", async () => {
    const { starter, guest } = await startHeld();
    const before = contacts(host).length;
    const probing = guest.probe(
      [
        { name: "outside", protocol: "udp", destination: OUTSIDE, port: 80, payload: Buffer.from("early") },
        { name: "tcp", protocol: "tcp", destination: "127.0.0.1", port: LOOPBACK_PORT },
        { name: "udp", protocol: "udp", destination: "127.0.0.1", port: LOOPBACK_PORT, payload: Buffer.from("x") },
        { name: "any", protocol: "tcp", destination: "0.0.0.0", port: LOOPBACK_PORT },
      ],
      4 * QUIET_MS,
    );
    await pause(QUIET_MS);
    expect(starter.lines.some((line) => "ok" in line)).toBe(false);
    expect(guest.frames).toEqual([]);
    openGate();
    expect(await starter.line((line) => "ok" in line)).toMatchObject({ ok: true });
    const [sent, ...hostile] = await probing;
    expect(sent?.payload.toString()).toBe("outside:early");
    expect(hostile.map((outcome) => outcome.answer)).toEqual(["none", "none", "none"]);
    expect(contacts(host).slice(before)).toEqual([]);
    guest.close();
  });

  it("gives its socket to one VMM alone, and to no program that it starts", async () => {
    const { starter, guest, started } = await startHeld();
    const second = await attach(started);
    openGate();
    await starter.line((line) => "ok" in line);
    expect(await guest.resolveGateway(GATEWAY)).toBe(true);
    await second.closed;
    expect(second.frames).toEqual([]);
    expect(existsSync(String(started["socketPath"]))).toBe(false);
    const sockets = execFileSync(namespaces.onHost[0] ?? "", [...namespaces.onHost.slice(1), "cat", "/proc/net/unix"]);
    expect(sockets.toString().split("\n").filter(isListening)).toEqual([]);
    guest.close();
  });

  it("outlives its starter, and then still becomes ready", async () => {
    const { starter, guest } = await startHeld();
    starter.child.kill("SIGKILL");
    await eventually(() => starter.child.signalCode !== null || undefined);
    openGate();
    await eventually(() => (guest.frames.length > 0 ? true : void guest.resolveGateway(GATEWAY, 0)));
    guest.close();
  });

  it("ends when its VMM has gone before", async () => {
    const { starter, guest } = await startHeld();
    guest.close();
    await guest.closed;
    openGate();
    expect(await starter.line((line) => "ok" in line)).toMatchObject({ ok: true });
    await networks.expectProcesses(2); // The services and the starter.
  });

  it("ends when passt ends before a VMM has come", async () => {
    const { result } = await networks.start();
    const passt = networks.processes().find((pid) => /passt/.test(readlinkSync(`/proc/${pid}/exe`)));
    process.kill(Number(passt), "SIGKILL");
    await networks.expectProcesses(2); // The services and the starter.
    expect(existsSync(String(result["socketPath"]))).toBe(false);
  });

  it("lets go of its VMM and leaves nothing when a port is taken meanwhile", async () => {
    const forward = { guestPort: 80, hostPort: BUSY_PORT, hostAddress: "127.0.0.1" };
    const { starter, guest } = await startHeld({ request: { mode: "user", ports: [forward] } });
    openGate();
    const result = await starter.line((line) => "ok" in line);
    expect(result).toMatchObject({ ok: false, code: "PORT_IN_USE", details: { hostPort: BUSY_PORT } });
    await guest.closed;
    expect(readdirSync(networks.dir)).toEqual([]);
  });

  it.each([
    ["TIMEOUT", { timeoutMs: QUIET_MS }],
    ["ABORTED", { abortAfterMs: QUIET_MS }],
  ])("fails with %s while it waits for passt, and leaves nothing", async (code, extra) => {
    const { starter, guest } = await startHeld(extra);
    expect(await starter.line((line) => "ok" in line)).toMatchObject({ ok: false, code });
    await guest.closed;
    expect(readdirSync(networks.dir)).toEqual([]);
    await networks.expectProcesses(2); // The services and the starter.
  });

  it("says how netguard ended when it is killed, and leaves nothing", async () => {
    const { starter, guest, started } = await startHeld();
    process.kill(Number(started["pid"]), "SIGKILL");
    const result = await starter.line((line) => "ok" in line);
    expect(result).toMatchObject({ ok: false, code: "NETWORK_FAILED", details: { signal: "SIGKILL" } });
    await guest.closed;
    expect(readdirSync(networks.dir)).toEqual([]);
  });

  it("says what passt said when it ends at its start", async () => {
    const broken = standIn("broken", 'echo "it is all too much" >&2; exit 3');
    const { result } = await networks.start({}, broken);
    expect(result).toMatchObject({ ok: false, code: "NETWORK_FAILED", details: { exitCode: 1 } });
    expect(result).toHaveProperty("details.log", expect.stringContaining("it is all too much"));
    expect(readdirSync(networks.dir)).toEqual([]);
  });

  it.each([
    ["works", {}, ["vmm.sock", "network.log"]],
    [
      "fails",
      { request: { mode: "user", ports: [{ guestPort: 80, hostPort: BUSY_PORT, hostAddress: "127.0.0.1" }] } },
      [],
    ],
  ])("that nobody waits for keeps no program, and harms none, when it %s", async (_how, extra, left) => {
    const starter = networks.launch({ ...extra, isLeft: true, timeoutMs: 600_000, acceptTimeoutMs: 2_000 });
    await eventually(() => starter.child.exitCode ?? undefined);
    expect(starter.child.exitCode).toBe(0);
    expect(starter.lines.map((line) => Object.keys(line)[0])).toEqual(["started"]);
    const net = join(networks.dir, "net");
    expect(existsSync(net) ? readdirSync(net).sort() : []).toEqual(left.sort());
  });
});

/** A line of /proc/net/unix: the sixth field is the path, the fourth has SO_ACCEPTCON of a socket that listens. */
function isListening(line: string): boolean {
  const [, , , flags = "", , , , path = ""] = line.trim().split(/\s+/);
  return (Number.parseInt(flags, 16) & 0x10000) !== 0 && /\/net\/vmm\./.test(path);
}
