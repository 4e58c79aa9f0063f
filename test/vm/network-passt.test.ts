// The user network against real passt and a guest that crafts its own frames, inside network namespaces of its own:
// nothing of this machine's network is touched.

import { execFileSync, spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { dnsQuery, type Probe, type RawGuest } from "../fixtures/raw-guest.js";
import { eventually, type Line, pause, Talker } from "../fixtures/talker.js";
import { attach, gateUserNetworks, UserNetworks } from "../support/user-network.js";

const ROOT = resolve(import.meta.dirname, "../..");
const HOST = `smolnet-h${process.pid}`;
const OUTSIDE = `smolnet-o${process.pid}`;
/** Loopback services of the "host". */
const LOOPBACK_PORT = 8_001;
/** Services of the "host" on all its addresses. */
const ANY_PORT = 8_002;
/** The guests' network: the first guest's address, another guest's, and the broadcast address. */
const [GUEST, NEIGHBOUR, BROADCAST] = ["10.187.0.16", "10.187.0.17", "10.187.63.255"] as const;
const [GATEWAY, DNS] = ["10.187.0.2", "10.187.0.3"] as const;

const skipReason = gateUserNetworks();

describe.skipIf(skipReason !== undefined)("user network", () => {
  let networks: UserNetworks;
  let services: Talker;
  let outside: Talker;

  beforeAll(async () => {
    networks = new UserNetworks(["ip", "netns", "exec", HOST]);
    makeNamespaces();
    const on = (port: number, v4: string, v6: string, name: string) =>
      ["tcp", "udp"].flatMap((protocol) => [
        { protocol, address: v4, port, name: `${name}4-${protocol}` },
        { protocol, address: v6, port, name: `${name}6-${protocol}` },
      ]);
    services = serve(HOST, [
      ...on(LOOPBACK_PORT, "127.0.0.1", "::1", "loopback"),
      ...on(ANY_PORT, "0.0.0.0", "::", "any"),
      { protocol: "dns", address: "127.0.0.53", port: 53, name: "resolver" },
      { protocol: "tcp", address: "127.0.0.53", port: 53, name: "resolver-tcp" },
      { protocol: "tcp", address: "127.0.0.1", port: 8_090, name: "busy" },
    ]);
    outside = serve(OUTSIDE, on(80, "203.0.113.7", "2001:db8:77::1", "outside"));
    await Promise.all([services, outside].map((talker) => talker.line((line) => line["event"] === "ready")));
  });

  afterEach(async () => {
    await networks.stopAll();
    await networks.expectProcesses(1); // The services alone.
  });

  afterAll(async () => {
    await services?.end();
    await outside?.end();
    for (const name of [HOST, OUTSIDE]) execFileSync("ip", ["netns", "del", name]);
    networks?.remove();
  });

  async function connect(result: Line): Promise<RawGuest> {
    expect(result).toMatchObject({ ok: true });
    const guest = await attach(result);
    expect(await guest.resolveGateway(GATEWAY)).toBe(true);
    return guest;
  }

  it("lets no crafted frame reach the host, and ordinary ones the outside", async () => {
    const { result } = await networks.start({
      request: { mode: "user", ports: [{ ...forward(8_180), guestPort: 80 }] },
    });
    const guest = await connect(result);
    const before = contacts(services).length;
    const outcomes = await guest.probe(hostileProbes(), 2_500);
    expect(outcomes.filter((outcome) => outcome.answer !== "none")).toEqual([]);
    expect(contacts(services).slice(before)).toEqual([]);

    const [tcp, udp] = await guest.probe([
      { name: "tcp", protocol: "tcp", destination: "203.0.113.7", port: 80 },
      { name: "udp", protocol: "udp", destination: "203.0.113.7", port: 80, payload: Buffer.from("hi") },
    ]);
    expect(tcp?.answer).toBe("syn-ack");
    expect(udp?.payload.toString()).toBe("outside4-udp:hi");
    expect(await guest.request("203.0.113.7", 80, "GET /\n")).toBe("hello from outside4-tcp\n");
    guest.close();
  });

  it("answers DNS from a resolver on the host's loopback, and opens nothing else there", async () => {
    const { result } = await networks.start();
    const guest = await connect(result);
    expect(result["plan"]).toMatchObject({ guest: { dnsServers: [DNS], dnsSearch: ["example.test"] } });
    const question = dnsQuery("a.example.test");
    const dns = { protocol: "udp" as const, destination: DNS, port: 53 };
    const [good, junk, otherPort, byTcp] = await guest.probe([
      { ...dns, name: "question", payload: question },
      { ...dns, name: "junk", payload: Buffer.from("not a DNS question at all") },
      { ...dns, name: "port", port: LOOPBACK_PORT, payload: question },
      { ...dns, name: "tcp", protocol: "tcp" },
    ]);
    expect(good?.payload.subarray(-4)).toEqual(Buffer.from([192, 0, 2, 53]));
    expect([junk, otherPort, byTcp].map((outcome) => outcome?.answer)).toEqual(["none", "none", "none"]);
    guest.close();
  });

  it("takes UDP only as an answer, and no low source port", async () => {
    const { result } = await networks.start();
    const guest = await connect(result);
    const to = { protocol: "udp" as const, destination: "203.0.113.7", port: 80, payload: Buffer.from("hi") };
    const [low] = await guest.probe([{ ...to, name: "low", sourcePort: 5_353 }], 500);
    expect(low?.answer).toBe("none");
    const [high] = await guest.probe([{ ...to, name: "high", sourcePort: 45_000 }], 500);
    expect(high?.answer).toBe("datagram");
    const before = guest.frames.length;
    const send = "const s=require('dgram').createSocket('udp4');s.send('x',45000,process.argv[1],()=>s.close())";
    for (const address of ["127.0.0.1", "10.77.0.2"]) {
      execFileSync("ip", ["netns", "exec", HOST, "node", "-e", send, address]);
    }
    await pause(300);
    expect(guest.frames.length).toBe(before);
    guest.close();
  });

  it("opens a private network that was asked for, without the host's address in it", async () => {
    const { result } = await networks.start({
      request: { mode: "user", ports: [], allowedNetworks: ["10.77.0.0/24"] },
    });
    const guest = await connect(result);
    const [router, host] = await guest.probe([
      { name: "router", protocol: "tcp", destination: "10.77.0.1", port: 9 },
      { name: "host", protocol: "tcp", destination: "10.77.0.2", port: ANY_PORT },
    ]);
    expect([router?.answer, host?.answer]).toEqual(["rst", "none"]);
    guest.close();
  });

  it("forwards a port of the host to the guest", async () => {
    const { result } = await networks.start({ request: { mode: "user", ports: [forward(8_180)] } });
    const guest = await connect(result);
    guest.serve(80, "guest says hi");
    const ask =
      "const s=require('net').connect(8180,process.argv[1],()=>s.write('q'));s.on('data',d=>{console.log(String(d));s.destroy()})";
    const asker = spawn("ip", ["netns", "exec", HOST, "node", "-e", ask, "127.0.0.1"], { timeout: 5_000 });
    let said = "";
    asker.stdout.on("data", (chunk: Buffer) => {
      said += chunk.toString();
    });
    await eventually(() => said !== "" || asker.exitCode !== null || undefined);
    expect(said).toBe("guest says hi\n");
    guest.close();
  });

  it("outlives the program that started it, and ends when its VMM is killed", async () => {
    const { starter, result } = await networks.start();
    const pid = Number(result["pid"]);
    const vmm = spawn("node", [
      "-e",
      "require('net').connect(process.argv[1]);setInterval(()=>{},1e3)",
      String(result["socketPath"]),
    ]);
    await eventually(() => !existsSync(String(result["socketPath"])) || undefined);
    starter.child.kill("SIGKILL");
    await pause(300);
    expect(existsSync(`/proc/${pid}`)).toBe(true);
    vmm.kill("SIGKILL");
    await networks.expectProcesses(1);
  });

  it("takes passt along when netguard itself is killed", async () => {
    const { result } = await networks.start();
    process.kill(Number(result["pid"]), "SIGKILL");
    await networks.expectProcesses(2); // Services and the starter.
  });

  it("gives up when no VMM ever comes", async () => {
    const { starter } = await networks.start({ acceptTimeoutMs: 200 });
    starter.child.kill("SIGKILL");
    await networks.expectProcesses(1);
  });

  it("says PORT_IN_USE for a busy port and leaves nothing", async () => {
    const { result } = await networks.start({ request: { mode: "user", ports: [forward(8_180), forward(8_090)] } });
    expect(result).toMatchObject({ ok: false, code: "PORT_IN_USE", details: { hostPort: 8_090 } });
    expect(readdirSync(networks.dir)).toEqual([]);
  });

  it.each([
    ["HOST_UNSUPPORTED", { guardPath: "/nonexistent/netguard" }],
    ["TIMEOUT", { timeoutMs: 0 }],
    ["ABORTED", { abortAfterMs: 0 }],
    ["NETWORK_FAILED", { request: { mode: "user", ports: [{ ...forward(8_181), hostAddress: "192.0.2.250" }] } }],
  ])("fails with %s and leaves nothing", async (code, extra) => {
    const { result } = await networks.start(extra);
    expect(result).toMatchObject({ ok: false, code });
    expect(readdirSync(networks.dir)).toEqual([]);
  });

  it("ends in order when it is told to, and leaves no process and no socket", async () => {
    const { starter, result } = await networks.start();
    starter.child.stdin?.write("stop\n");
    await starter.line((line) => line["stopped"] === true);
    expect(networks.processes()).toHaveLength(2);
    expect(existsSync(String(result["socketPath"]))).toBe(false);
  });

  it("is told nothing of its starter's environment", async () => {
    const { result } = await networks.start({}, ["env", "API_KEY=s3cr3t"]);
    const variables = readFileSync(`/proc/${Number(result["pid"])}/environ`, "utf8")
      .split("\0")
      .filter(Boolean);
    expect(variables.map((variable) => variable.split("=")[0]).sort()).toEqual(["LC_ALL", "PATH"]);
  });

  it("works for a user who is not root", async () => {
    const { result } = await networks.start({}, ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]);
    const guest = await connect(result);
    expect(await guest.request("203.0.113.7", 80, "GET /\n")).toBe("hello from outside4-tcp\n");
    guest.close();
  });
});

function forward(hostPort: number): { guestPort: number; hostPort: number; hostAddress: string } {
  return { guestPort: 80, hostPort, hostAddress: "127.0.0.1" };
}

/** Every destination and source that might mean the host, by both protocols, to both kinds of service. */
function hostileProbes(): Probe[] {
  const destinations4 = [
    ...["127.0.0.1", "127.0.0.53", "127.1.2.3", "127.255.255.255", "0.0.0.0", "0.0.0.1"],
    ...[GATEWAY, DNS, GUEST, BROADCAST, NEIGHBOUR, "10.77.0.1", "10.77.0.2", "10.77.0.255"],
    ...["169.254.1.1", "169.254.169.254", "224.0.0.1", "240.0.0.1", "255.255.255.255", "198.51.100.2"],
  ];
  const destinations6 = [
    ...["::1", "::", "::ffff:127.0.0.1", "::ffff:0.0.0.0", "::127.0.0.1", "64:ff9b::7f00:1"],
    ...["fd77::2", "2001:db8:77::2", "fe80::1", "ff02::1"],
  ];
  const sources4 = [
    undefined,
    "127.0.0.1",
    "0.0.0.0",
    "10.77.0.2",
    GATEWAY,
    NEIGHBOUR,
    "255.255.255.255",
    "169.254.1.1",
  ];
  const sources6 = ["fd77::2", "::1", "::", "fe80::5", "::ffff:127.0.0.1"];
  const pairs = [
    ...destinations4.flatMap((destination) => sources4.map((source) => ({ destination, source }))),
    ...destinations6.flatMap((destination) => sources6.map((source) => ({ destination, source }))),
  ];
  const plain = pairs.flatMap(({ destination, source }) =>
    ([LOOPBACK_PORT, ANY_PORT] as const).flatMap((port) =>
      (["tcp", "udp"] as const).map((protocol) => ({
        name: `${destination} from ${source ?? "itself"} ${protocol} ${port}`,
        protocol,
        destination,
        port,
        ...(source === undefined ? {} : { source }),
        ...(protocol === "udp" ? { payload: Buffer.from("knock") } : {}),
      })),
    ),
  );
  // From a forwarded port, with flags that look like an answer or that open a connection in disguise.
  const disguised = ["127.0.0.1", "0.0.0.0", "10.77.0.2"].flatMap((destination) =>
    [0x03, 0x06, 0x0a, 0x12, 0x22, 0xc2].map((flags, i) => ({
      name: `${destination} flags ${flags}`,
      protocol: "tcp" as const,
      destination,
      port: LOOPBACK_PORT + (i % 2),
      sourcePort: 80,
      flags,
    })),
  );
  return [...plain, ...disguised];
}

function contacts(talker: Talker): Line[] {
  return talker.lines.filter((line) => line["event"] === "contact");
}

function serve(namespace: string, list: readonly unknown[]): Talker {
  const script = join(ROOT, "test/fixtures/namespace-services.mjs");
  return new Talker(["ip", "netns", "exec", namespace, "node", script, JSON.stringify(list)]);
}

/** One "host" and the "internet" behind it; the host also has a public address of its own. */
function makeNamespaces(): void {
  const ip = (...args: string[]) => execFileSync("ip", args);
  ip("netns", "add", HOST);
  ip("netns", "add", OUTSIDE);
  ip("-n", HOST, "link", "add", "up0", "type", "veth", "peer", "name", "down0", "netns", OUTSIDE);
  for (const name of [HOST, OUTSIDE]) ip("-n", name, "link", "set", "lo", "up");
  for (const address of ["10.77.0.2/24", "198.51.100.2/32"]) ip("-n", HOST, "addr", "add", address, "dev", "up0");
  for (const address of ["fd77::2/64", "2001:db8:77::2/64"])
    ip("-n", HOST, "addr", "add", address, "dev", "up0", "nodad");
  ip("-n", HOST, "link", "set", "up0", "up");
  ip("-n", OUTSIDE, "addr", "add", "10.77.0.1/24", "dev", "down0");
  ip("-n", OUTSIDE, "addr", "add", "203.0.113.7/32", "dev", "lo");
  ip("-n", OUTSIDE, "addr", "add", "2001:db8:77::1/64", "dev", "down0", "nodad");
  ip("-n", OUTSIDE, "link", "set", "down0", "up");
  ip("-n", HOST, "route", "add", "default", "via", "10.77.0.1");
  ip("-n", HOST, "-6", "route", "add", "default", "via", "2001:db8:77::1");
}
