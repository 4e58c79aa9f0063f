// The user network against real passt and a guest that crafts its own frames, inside network namespaces of its own:
// nothing of this machine's network is touched.

import { execFileSync } from "node:child_process";
import { join, resolve } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { Deadline } from "../../src/base/deadline.js";
import { controlCall } from "../../src/host/control-call.js";
import { type Answer, dnsQuery, type Probe, type RawGuest } from "../fixtures/raw-guest.js";
import { eventually, type Line, pause, Talker } from "../fixtures/talker.js";
import { AS_NOBODY, gateUserNetworks, order, type UserNetwork, UserNetworks } from "../support/user-network.js";

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
/** Out there; what the resolver says of every name; and nobody's, to which connections by name may be made all the same. */
const [PUBLIC, NAMED, NOWHERE] = ["203.0.113.7", "192.0.2.53", "203.0.113.99"] as const;
/** Of a private network next to the host, whose own address there is 10.77.0.2. */
const ROUTER = "10.77.0.1";
const HELLO = "hello from outside4-tcp\n";
/** Longer than anything here takes when it works, in milliseconds; an expectation that nothing comes waits for it. */
const QUIET_MS = 300;

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
    ]);
    outside = serve(OUTSIDE, [
      ...on(80, PUBLIC, "2001:db8:77::1", "outside"),
      { protocol: "tcp", address: NAMED, port: 80, name: "named" },
      { protocol: "tcp", address: ROUTER, port: ANY_PORT, name: "router" },
    ]);
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

  /** Starts a network that works, and a guest on it. */
  async function begin(
    request: Line = {},
    wrap: readonly string[] = [],
  ): Promise<{ network: UserNetwork; guest: RawGuest; result: Line }> {
    const { network, result } = await networks.start({ request }, wrap);
    expect(result).toMatchObject({ ok: true });
    const guest = await network.guest();
    expect(await guest.resolveGateway(GATEWAY)).toBe(true);
    return { network, guest, result };
  }

  it("lets no crafted frame reach the host, and ordinary ones the outside", async () => {
    const { network, guest } = await begin();
    const before = contacts(services).length;
    const probes = hostileProbes();
    const outcomes = await guest.probe(probes, 2_500);
    const told = (list: readonly { name: string; answer: Answer }[]) =>
      list.map(({ name, answer }) => `${name}: ${answer}`);
    expect(told(outcomes)).toEqual(told(probes));
    expect(contacts(services).slice(before)).toEqual([]);
    expect(network.refusals()).toContain(`tcp 127.0.0.1:${LOOPBACK_PORT} never`);

    const to = { destination: PUBLIC, port: 80 };
    const [tcp, udp, ping] = await guest.probe([
      { ...to, name: "tcp", protocol: "tcp" },
      { ...to, name: "udp", protocol: "udp", payload: Buffer.from("hi") },
      { ...to, name: "ping", protocol: "ping", payload: Buffer.from("are you there?") },
    ]);
    expect(tcp?.answer).toBe("syn-ack");
    expect(udp?.payload.toString()).toBe("outside4-udp:hi");
    expect(ping).toMatchObject({ answer: "echo", payload: Buffer.from("are you there?") });
    expect(await guest.request(PUBLIC, 80, "GET /\n")).toBe(HELLO);
  });

  it("answers DNS from a resolver on the host's loopback, and opens nothing else there", async () => {
    const { guest, result } = await begin();
    expect(result["plan"]).toMatchObject({ guest: { dnsServers: [DNS], dnsSearch: ["example.test"] } });
    const before = contacts(services).length;
    const question = dnsQuery("a.example.test");
    const dns = { protocol: "udp" as const, destination: DNS, port: 53 };
    const [good, junk, nothing, otherPort, byTcp] = await guest.probe([
      { ...dns, name: "question", payload: question, sourcePort: 999 },
      { ...dns, name: "junk", payload: Buffer.from("not a DNS question at all") },
      { ...dns, name: "nothing", payload: Buffer.from("nothing") },
      { ...dns, name: "port", port: LOOPBACK_PORT, payload: question },
      { ...dns, name: "tcp", protocol: "tcp" },
    ]);
    expect(good?.payload.subarray(-4)).toEqual(Buffer.from([192, 0, 2, 53]));
    expect(rcodeOf(junk?.payload)).toBe(NOT_IMPLEMENTED);
    expect([nothing, otherPort, byTcp].map((outcome) => outcome?.answer)).toEqual(["none", "prohibited", "rst"]);
    expect(contacts(services).slice(before)).toMatchObject([{ name: "resolver" }]);
  });

  it("takes UDP only as an answer, and no low source port", async () => {
    const { guest } = await begin();
    const to = { protocol: "udp" as const, destination: PUBLIC, port: 80, payload: Buffer.from("hi") };
    const [low, high] = await guest.probe(
      [
        { ...to, name: "low", sourcePort: 5_353 },
        { ...to, name: "high", sourcePort: 45_000 },
      ],
      500,
    );
    expect([low?.answer, high?.answer]).toEqual(["prohibited", "datagram"]);
    const before = guest.frames.length;
    const send = "const s=require('dgram').createSocket('udp4');s.send('x',45000,process.argv[1],()=>s.close())";
    for (const address of ["127.0.0.1", "10.77.0.2"]) {
      execFileSync("ip", ["netns", "exec", HOST, process.execPath, "-e", send, address]);
    }
    await pause(QUIET_MS);
    expect(guest.frames.length).toBe(before);
  });

  it("opens a private network that is allowed, without the host's address in it", async () => {
    const { network, guest } = await begin({ egress: { allow: ["10.77.0.0/24"] } });
    const before = contacts(services).length;
    const to = { protocol: "tcp" as const, port: ANY_PORT };
    const outcomes = await guest.probe([
      { ...to, name: "router", destination: ROUTER },
      { ...to, name: "host", destination: "10.77.0.2" },
      { ...to, name: "loopback", destination: "127.0.0.1" },
      { ...to, name: "public", destination: PUBLIC, port: 80 },
      { ...to, name: "ping", protocol: "ping", destination: ROUTER },
    ]);
    expect(outcomes.map(({ answer }) => answer)).toEqual(["syn-ack", "rst", "rst", "rst", "echo"]);
    expect(contacts(services).slice(before)).toEqual([]);
    expect(network.refusals()).toEqual([
      `tcp 10.77.0.2:${ANY_PORT} host`,
      `tcp 127.0.0.1:${ANY_PORT} never`,
      `tcp ${PUBLIC}:80 not-allowed`,
    ]);
  });

  it("carries an allowed name wherever the guest connects to, and no other one", async () => {
    const { network, guest } = await begin({ egress: { allow: ["api.example.test:80"] } });
    const before = contacts(outside).length;
    const get = (name: string) => guest.request(NOWHERE, 80, `GET / HTTP/1.1\r\nHost: ${name}\r\n\r\n`);
    expect(await get("api.example.test")).toBe("hello from named\n");
    expect(await get("evil.test")).toMatch(/^HTTP\/1\.1 403 [\s\S]*evil\.test/);
    expect(await get("127.0.0.1")).toMatch(/^HTTP\/1\.1 403 /);
    expect(contacts(outside).slice(before)).toMatchObject([{ name: "named" }]);

    const probe = { protocol: "tcp" as const, destination: NOWHERE };
    const outcomes = await guest.probe([
      { ...probe, name: "other port", port: 81 },
      { ...probe, name: "host", destination: "10.77.0.2", port: 80 },
      { ...probe, name: "quic", protocol: "udp", port: 80 },
      { ...probe, name: "ping", protocol: "ping", port: 80 },
      { ...probe, name: "dns by tcp", destination: DNS, port: 53 },
      { ...probe, name: "allowed", protocol: "udp", destination: DNS, port: 53, payload: dnsQuery("api.example.test") },
      { ...probe, name: "other", protocol: "udp", destination: DNS, port: 53, payload: dnsQuery("evil.test") },
    ]);
    expect(outcomes.slice(0, 5).map(({ answer }) => answer)).toEqual([
      "rst",
      "rst",
      "prohibited",
      "prohibited",
      "syn-ack",
    ]);
    expect(outcomes.slice(5).map(({ payload }) => rcodeOf(payload))).toEqual([0, REFUSED]);
    expect(network.refusals()).toEqual(
      expect.arrayContaining([
        "http evil.test:80 name-not-allowed",
        `tcp ${NOWHERE}:81 not-allowed`,
        "dns evil.test:null name-not-allowed",
      ]),
    );
  });

  it("enforces another policy at once, also on what goes on already", async () => {
    const { network, guest } = await begin();
    const connection = (await guest.connect(PUBLIC, 80))!;
    expect(await order(network, "off")).toEqual({ ok: true });
    await eventually(() => connection.ended());
    expect(connection.ended()).toBe("rst");
    connection.write("GET /\n");
    const question = { protocol: "udp" as const, destination: DNS, port: 53, payload: dnsQuery("a.example.test") };
    const [tcp, dns] = await guest.probe([
      { name: "tcp", protocol: "tcp", destination: PUBLIC, port: 80 },
      { ...question, name: "dns" },
    ]);
    expect(tcp?.answer).toBe("rst");
    expect(rcodeOf(dns?.payload)).toBe(REFUSED);
    expect(connection.received()).toBe("");

    // Names need a second passt, which comes and goes with them.
    expect(network.passts()).toHaveLength(1);
    expect(await order(network, { allow: ["*.example.test:80"] })).toEqual({ ok: true });
    expect(network.passts()).toHaveLength(2);
    const get = "GET / HTTP/1.1\r\nHost: a.example.test\r\n\r\n";
    expect(await guest.request(NOWHERE, 80, get)).toBe("hello from named\n");
    expect(await order(network, { allow: [PUBLIC] })).toEqual({ ok: true });
    await eventually(() => network.passts().length === 1 || undefined);
    expect(await guest.request(NOWHERE, 80, get, 1_000)).toBe("");
    expect(await guest.request(PUBLIC, 80, "GET /\n")).toBe(HELLO);
  });

  it("keeps its policy when it is given nonsense", async () => {
    const { network, guest } = await begin();
    const nonsense = { op: "policy", policy: { mode: "everything" } };
    expect(await controlCall(join(network.dir, "net/ctl.sock"), nonsense, Deadline.after(5_000))).toMatchObject({
      ok: false,
    });
    expect(await guest.request(PUBLIC, 80, "GET /\n")).toBe(HELLO);
  });

  it("works for a user who is not root, names too", async () => {
    const { network, guest } = await begin({ egress: { allow: [PUBLIC, "api.example.test:80"] } }, AS_NOBODY);
    expect(await guest.request(PUBLIC, 80, "GET /\n")).toBe(HELLO);
    const get = "GET / HTTP/1.1\r\nHost: api.example.test\r\n\r\n";
    expect(await guest.request(NOWHERE, 80, get)).toBe("hello from named\n");
    process.kill(await network.guardPid(), "SIGKILL");
    await networks.expectProcesses(3); // Services, the starter and the VMM.
    expect(await network.restart()).toMatchObject({ restarted: true });
    expect(await guest.request(PUBLIC, 80, "GET /\n")).toBe(HELLO);
  });
});

/** Response codes of DNS (RFC 1035, 4.1.1). */
const [NOT_IMPLEMENTED, REFUSED] = [4, 5];

function rcodeOf(answer: Buffer | undefined): number | undefined {
  return answer === undefined || answer.length < 4 ? undefined : answer.readUInt8(3) & 15;
}

/**
 * Every destination and source that might mean the host, by both protocols, to both kinds of service. What the guest may
 * send, but not there, is refused; all else has no answer.
 */
function hostileProbes(): (Probe & { readonly answer: Answer })[] {
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
  const pairs: { readonly destination: string; readonly source: string | undefined }[] = [
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
        answer: source === undefined ? refusalOf(protocol, destination) : ("none" as const),
      })),
    ),
  );
  // With flags that look like an answer, or that open a connection in disguise. Nobody answers a reset.
  const disguised = ["127.0.0.1", "0.0.0.0", "10.77.0.2"].flatMap((destination) =>
    [0x03, 0x06, 0x0a, 0x12, 0x22, 0xc2].map((flags, i) => ({
      name: `${destination} flags ${flags}`,
      protocol: "tcp" as const,
      destination,
      port: LOOPBACK_PORT + (i % 2),
      flags,
      answer: flags === 0x06 ? ("none" as const) : ("rst" as const),
    })),
  );
  return [...plain, ...disguised];
}

/** No ICMP error is sent about what goes to many (RFC 1122, 3.2.2). */
function refusalOf(protocol: "tcp" | "udp", destination: string): Answer {
  if (protocol === "tcp") return "rst";
  return Number(destination.split(".")[0]) >= 224 ? "none" : "prohibited";
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
  ip("-n", OUTSIDE, "addr", "add", `${ROUTER}/24`, "dev", "down0");
  for (const address of [PUBLIC, NAMED]) ip("-n", OUTSIDE, "addr", "add", `${address}/32`, "dev", "lo");
  ip("-n", OUTSIDE, "addr", "add", "2001:db8:77::1/64", "dev", "down0", "nodad");
  ip("-n", OUTSIDE, "link", "set", "down0", "up");
  ip("-n", HOST, "route", "add", "default", "via", ROUTER);
  ip("-n", HOST, "-6", "route", "add", "default", "via", "2001:db8:77::1");
  // As systemd has it everywhere: else no unprivileged program, passt among them, may ping.
  execFileSync("ip", ["netns", "exec", HOST, "sysctl", "-qw", "net.ipv4.ping_group_range=0 2147483647"]);
}
