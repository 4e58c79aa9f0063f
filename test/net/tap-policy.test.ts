// What the rules of TAP networks make of policies, of changes to them, and of what others on the host and around it do.

import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { udp as datagram, ETHER, frame, icmp, ipv4, PROTOCOL, readFrame } from "../support/frames.js";
import {
  CONTAINER,
  FIRST_PORT,
  gateInternet,
  HOST,
  Internet,
  LAN_PORT,
  NEVER,
  PRIVATE,
  PUBLIC,
  ROUTER,
} from "../support/internet.js";
import { NetServer, type Probe } from "../support/internet-tool.js";
import { allow, type NamespaceGuest, OFF, OPEN, type Policy, TapBed } from "./tap-bed.js";

const reason = gateInternet();
/** A refusal that is answered takes milliseconds; one that is not would take the client's whole patience. */
const TIMEOUT_MS = 1_500;
const SETTLE_MS = 200;
const PORT = FIRST_PORT + 3;
const OTHER_PORT = FIRST_PORT + 4;
const PROXY_PORT = 29_653;
const [SITE, OTHER_SITE] = PUBLIC;
const [LAN_SERVER] = PRIVATE;

describe.skipIf(reason !== undefined)("a policy", () => {
  let internet: Internet;
  let tap: TapBed;
  let guest: NamespaceGuest;
  let onGateway: NetServer;

  beforeAll(async () => {
    internet = await Internet.create();
    // By itself the kernel sends six ICMP errors at once to one address, and then one a second.
    internet.run("sysctl", "-qw", "net.ipv4.icmp_ratelimit=0");
    tap = new TapBed(internet);
    guest = await tap.guest("p");
    const address = guest.addresses.gateway;
    onGateway = await NetServer.start(internet.tool, internet.onHost, {
      services: [
        { kind: "dns", address, port: 53, name: "dns" },
        // Not for guests.
        { kind: "dns", address: HOST.lan, port: 53, name: "dns" },
        { kind: "tcp", address, port: PROXY_PORT, name: "proxy" },
      ],
      zone: { "a.example.test": { a: ["192.0.2.53"] } },
    });
  });

  beforeEach(() => set(OPEN));

  afterAll(async () => {
    await onGateway?.[Symbol.asyncDispose]();
    await tap?.[Symbol.asyncDispose]();
    await internet?.[Symbol.asyncDispose]();
  });

  const set = (policy: Policy) => tap.call("update", tap.owner("p"), policy);

  /** Tries each once. @returns `"refused"` for every way of being refused at once, else the outcome. */
  async function outcomes(...probes: (Omit<Probe, "text"> & { address: string })[]): Promise<string[]> {
    const answers = await guest.client(probes.map((probe) => ({ timeoutMs: TIMEOUT_MS, text: "x", ...probe })));
    return answers.map(({ outcome, reply, ms }) => {
      if (outcome === "ok") return reply.split(":")[0] ?? "";
      return ms < TIMEOUT_MS / 2 && ["refused", "unreachable", "prohibited", "reset"].includes(outcome)
        ? "refused"
        : outcome;
    });
  }

  const tcp = (address: string, port = PORT) => ({ kind: "tcp" as const, address, port });
  const udp = (address: string, port = PORT) => ({ kind: "udp" as const, address, port });
  const ping = (address: string) => ({ kind: "ping" as const, address });
  const dns = (address: string, byTcp = false) =>
    ({ kind: "dns", address, port: 53, name: "a.example.test", type: "A", byTcp }) as const;

  it('"open" reaches the outside, and everything else is refused at once', async () => {
    expect(await outcomes(tcp(SITE), udp(SITE), ping(SITE))).toEqual(["outside", "outside", "x"]);
    for (const address of [HOST.lan, HOST.privateLan, guest.addresses.gateway, ...PRIVATE, ...NEVER, CONTAINER]) {
      const answers = await outcomes(tcp(address), udp(address));
      expect([address, ...answers]).toEqual([address, "refused", "refused"]);
    }
  });

  it('"off" reaches nothing but the resolver, which answers for itself', async () => {
    await set(OFF);
    const refused = [tcp(SITE), udp(SITE), ping(SITE), tcp(LAN_SERVER), tcp(HOST.lan, LAN_PORT), tcp(SITE, 443)];
    expect(new Set(await outcomes(...refused))).toEqual(new Set(["refused"]));
    const answers = await guest.client([dns(guest.addresses.gateway), dns(guest.addresses.gateway, true)]);
    expect(answers.map(({ lookup }) => lookup?.answers)).toEqual([["192.0.2.53"], ["192.0.2.53"]]);
    expect(await outcomes(dns(HOST.lan), dns(SITE))).toEqual(["refused", "refused"]);
  });

  it('"allow" reaches its networks on their ports, and nothing else', async () => {
    await set(allow([{ cidr: `${SITE}/32`, port: PORT }, { cidr: "203.0.113.0/24" }]));
    expect(await outcomes(tcp(SITE), udp(SITE), tcp(OTHER_SITE), udp(OTHER_SITE), ping(OTHER_SITE))).toEqual([
      ...["outside", "outside", "outside", "outside", "x"],
    ]);
    const closed = [tcp(SITE, OTHER_PORT), udp(SITE, OTHER_PORT), ping(SITE), tcp(PUBLIC[3]), udp(PUBLIC[3])];
    expect(new Set(await outcomes(...closed))).toEqual(new Set(["refused"]));
  });

  it("opens private addresses only by an entry that is private itself, and the host and other guests by none", async () => {
    await set(allow([{ cidr: "0.0.0.0/0" }]));
    expect(await outcomes(tcp(SITE))).toEqual(["outside"]);
    const closed = [...PRIVATE, ...NEVER, HOST.lan, HOST.privateLan, guest.addresses.gateway, CONTAINER];
    expect(new Set(await outcomes(...closed.map((address) => tcp(address))))).toEqual(new Set(["refused"]));
    await set(allow([{ cidr: "10.0.0.0/8" }, { cidr: "172.16.0.0/12" }, { cidr: "169.254.0.0/16" }]));
    const other = await tap.setUp("q");
    expect(await outcomes(tcp(LAN_SERVER), tcp("172.20.0.7"), tcp(CONTAINER))).toEqual([
      "outside",
      "outside",
      "outside",
    ]);
    const still = [HOST.privateLan, HOST.bridge, NEVER[0], other.guest, other.gateway, "172.16.200.1"];
    expect(new Set(await outcomes(...still.map((address) => tcp(address))))).toEqual(new Set(["refused"]));
    await tap.call("tearDown", tap.owner("q"));
  });

  it("takes connections to a port of a name to the proxy, wherever they go, unless they may go there directly", async () => {
    await set(allow([{ cidr: `${OTHER_SITE}/32` }], [PORT, 443]));
    expect(await outcomes(tcp(SITE), tcp(PUBLIC[2]), tcp(OTHER_SITE))).toEqual(["proxy", "proxy", "outside"]);
    const closed = [
      ...[udp(SITE, 443), udp(SITE), tcp(SITE, OTHER_PORT), ping(SITE), tcp(LAN_SERVER), tcp(NEVER[0])],
      ...[tcp(HOST.lan), tcp(HOST.privateLan), tcp(guest.addresses.gateway)],
      tcp(guest.addresses.gateway, PROXY_PORT),
    ];
    expect(new Set(await outcomes(...closed))).toEqual(new Set(["refused"]));
    await set(OFF);
    expect(await outcomes(tcp(SITE), tcp(guest.addresses.gateway, PROXY_PORT))).toEqual(["refused", "refused"]);
  });

  it("that becomes stricter ends what goes on: packets are judged, not connections", async () => {
    for (const stricter of [OFF, allow([{ cidr: `${OTHER_SITE}/32` }]), allow([], [443])]) {
      await set(OPEN);
      const held = guest.try({ kind: "hold", address: SITE, port: PORT, timeoutMs: 6_000 });
      const other = guest.try({ kind: "hold", address: OTHER_SITE, port: PORT, timeoutMs: 1_500 });
      await new Promise((done) => setTimeout(done, 700));
      await set(stricter);
      expect((await held).outcome).toMatch(/^(reset|refused)$/);
      const goesOn = stricter.networks.length > 0;
      expect((await other).outcome === "ok").toBe(goesOn);
    }
  });

  it("lets nothing but whole and plain packets out, wherever they go", async () => {
    const facts = await guest.facts();
    const macs = { source: facts.mac, destination: facts.gatewayMac };
    const ends = { source: facts.address, destination: SITE };
    const isSeen = async (...packets: readonly Buffer[]) => {
      const mark = await internet.outside.mark();
      await guest.frames(
        facts.device,
        packets.map((packet) => frame(macs, ETHER.ipv4, packet)),
        SETTLE_MS,
      );
      const seen = await internet.outside.packets("down0", mark);
      return seen.some(({ hex }) => readFrame(hex).destination === SITE);
    };
    const whole = datagram(ends, PORT, "x".repeat(64));
    const [first, second] = [whole.subarray(0, 32), whole.subarray(32)];
    expect(await isSeen(ipv4(ends, PROTOCOL.udp, whole))).toBe(true);
    const fragments = [
      ipv4(ends, PROTOCOL.udp, first, { hasMoreFragments: true, id: 7 }),
      ipv4(ends, PROTOCOL.udp, second, { fragmentOffset: 4, id: 7 }),
    ];
    expect(await isSeen(...fragments)).toBe(false);
    expect(await isSeen(ipv4(ends, PROTOCOL.udp, whole, { options: Buffer.from([1, 1, 1, 0]) }))).toBe(false);
    expect(await isSeen(ipv4(ends, PROTOCOL.gre, whole))).toBe(false);
    expect(await isSeen(ipv4(ends, PROTOCOL.icmp, icmp("x", 13)))).toBe(false);
  });

  it("leaves the host its way to the guest, and gives nobody else one", async () => {
    await set(OFF);
    await guest.serve([{ kind: "tcp", address: "0.0.0.0", port: PORT, name: "guest" }]);
    const { guest: address, gateway } = guest.addresses;
    const probe = { ...tcp(address), text: "x", timeoutMs: TIMEOUT_MS };
    expect(await internet.host.client([probe, { ...probe, source: HOST.lan }])).toMatchObject([
      { reply: "guest:x" },
      { reply: "guest:x" },
    ]);
    const tries = [address, gateway].flatMap((to) => {
      internet.ipOutside("route", "replace", `${to}/32`, "via", HOST.lan);
      return [PORT, 53, PROXY_PORT].map((port) => ({ ...probe, address: to, port }));
    });
    const fromOutside = async () => {
      const all = [undefined, CONTAINER].flatMap((source) =>
        tries.map((one) => ({ ...one, ...(source && { source }) })),
      );
      const watched = await guest.watch("eth0");
      const answers = (await internet.outside.client(all)).map(({ outcome }) => outcome);
      const arrived = (await watched()).map(({ hex }) => readFrame(hex).source);
      return [...answers, ...arrived.filter((source) => source === ROUTER || source === CONTAINER)];
    };
    const tried = await fromOutside();
    expect([tried.length, tried.includes("ok")]).toEqual([2 * tries.length, false]);
    // Nor where the host is a router for its neighbours.
    internet.run("sysctl", "-qw", "net.ipv4.ip_forward=1");
    await set(OPEN);
    expect(await fromOutside()).toEqual(tried);
    expect(await outcomes(tcp(SITE))).toEqual(["outside"]);
    internet.run("sysctl", "-qw", "net.ipv4.ip_forward=0");
    await tap.call("repair");
  });
});
