// TAP networks beside others on the same host: their address translation, their connections, their devices. Whatever is
// set up here is undone, so that the order of the tests does not matter.

import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { ETHER, frame, icmp, ipv4, PROTOCOL, readFrame, udp } from "../support/frames.js";
import { CONTAINER, FIRST_PORT, gateInternet, HOST, Internet, PUBLIC } from "../support/internet.js";
import type { Facts, Probe } from "../support/internet-tool.js";
import { pause } from "../support/wait.js";
import { NamespaceGuest, TapBed } from "./tap-bed.js";

const reason = gateInternet();
const TIMEOUT_MS = 1_500;
const WATCH_MS = 300;
const PORT = FIRST_PORT + 5;
const [SITE] = PUBLIC;
/** CONNECTION_LIMIT of vm-rules.ts, for each of what is forwarded and what is for the host. */
const CONNECTION_LIMIT = 4_096;
/** Connections that may begin at once. */
const NEW_BURST = 2_000;

describe.skipIf(reason !== undefined)("beside others", () => {
  let internet: Internet;
  let tap: TapBed;
  let guest: NamespaceGuest;
  let facts: Facts;

  beforeAll(async () => {
    internet = await Internet.create();
    tap = new TapBed(internet);
    guest = await tap.guest("n");
    facts = await guest.facts();
  });

  afterEach(async () => {
    internet.run("sh", "-c", "nft delete table ip theirs 2>/dev/null || true");
    await tap.call("repair");
  });

  afterAll(async () => {
    await tap?.[Symbol.asyncDispose]();
    await internet?.[Symbol.asyncDispose]();
  });

  const probe = (address: string, port = PORT): Probe => ({
    kind: "tcp",
    address,
    port,
    text: "x",
    timeoutMs: TIMEOUT_MS,
  });

  it("no address that others translate leads a guest anywhere", async () => {
    const elsewhere = [`${CONTAINER}:${PORT}`, `${SITE}:${PORT}`, `127.0.0.1:${PORT}`, `${HOST.bridge}:${PORT}`];
    const rules = elsewhere.map((to, i) => `tcp dport ${7_000 + i} dnat to ${to}`);
    tap.nft(
      "table ip theirs { chain pre { type nat hook prerouting priority dstnat - 10; " +
        `${rules.join("; ")}; tcp dport 7100 redirect to :${PORT}; }; }`,
    );
    const ports = [...elsewhere.map((_, i) => 7_000 + i), 7_100];
    // From outside they work.
    const byOthers = await internet.outside.client([7_003, 7_100].map((port) => probe(HOST.lan, port)));
    expect(byOthers.map(({ reply }) => reply)).toEqual(["host:x", "host:x"]);
    for (const address of [HOST.lan, guest.addresses.gateway, SITE]) {
      const answers = await guest.client(ports.map((port) => probe(address, port)));
      expect(answers.map(({ outcome }) => outcome)).not.toContain("ok");
    }
    expect(await guest.try(probe(SITE))).toMatchObject({ outcome: "ok" });
  });

  it("the host is no router for its neighbours, although it forwards for guests", async () => {
    expect(internet.run("cat", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv4/conf/up0/forwarding")).toBe(
      "0\n1\n",
    );
    internet.ipOutside("route", "replace", "5.6.7.8/32", "via", HOST.lan);
    const isForwarded = async () => {
      const mark = await internet.outside.mark();
      await internet.outside.client([
        { kind: "udp", address: "5.6.7.8", port: PORT, text: "pass", timeoutMs: WATCH_MS },
      ]);
      const seen = (await internet.outside.packets("down0", mark)).filter(({ isOutgoing }) => !isOutgoing);
      return seen.some(({ hex }) => readFrame(hex).destination === "5.6.7.8");
    };
    expect(await isForwarded()).toBe(false);
    tap.nft("flush set inet smolvm guarded");
    expect(await isForwarded()).toBe(true);
    await tap.call("repair");
    expect(await isForwarded()).toBe(false);
  });

  it("no guest spoils a connection of the host's by what it says about it", async () => {
    // Nobody answers there, so that the host's program goes on waiting.
    const silent = "203.0.113.200";
    const ends = { source: HOST.lan, destination: silent };
    const isSpoiled = async () => {
      internet.ip("route", "flush", "cache");
      const sourcePort = 30_001;
      const probe: Probe = { kind: "udp", address: silent, port: PORT, text: "x", timeoutMs: TIMEOUT_MS };
      const waiting = internet.host.client([{ ...probe, source: HOST.lan, sourcePort }]);
      await pause(WATCH_MS);
      const tooLong = icmp(ipv4(ends, PROTOCOL.udp, udp(ends, PORT, "x", sourcePort)), 3, 4, 600);
      const lie = ipv4({ source: facts.address, destination: HOST.lan }, PROTOCOL.icmp, tooLong);
      const macs = { source: facts.mac, destination: facts.gatewayMac };
      await guest.frames(facts.device, [frame(macs, ETHER.ipv4, lie)], WATCH_MS);
      const isBelieved = internet.ip("route", "get", silent).includes("mtu 600");
      await waiting;
      return isBelieved;
    };
    expect(await isSpoiled()).toBe(false);
    // With a rule that takes every answer for one, it would be.
    tap.nft("insert rule inet smolvm to_host ct direction reply accept");
    expect(await isSpoiled()).toBe(true);
    await tap.call("repair");
    expect(await isSpoiled()).toBe(false);
  });

  it("a guest hears nothing that the host tells all its neighbours", async () => {
    const { device, guest: address } = guest.addresses;
    const heard = async () => {
      const watched = await guest.watch(facts.device);
      const to = ["224.0.0.251", "255.255.255.255", "172.16.0.3", "ff02::fb"];
      await internet.host.client([
        ...to.map(
          (one): Probe => ({ kind: "udp", address: one, port: 5_353, device, text: "hello", timeoutMs: WATCH_MS }),
        ),
        { kind: "udp", address, port: 5_353, text: "for you", timeoutMs: WATCH_MS },
      ]);
      return (await watched()).map(({ hex }) => readFrame(hex).destination).filter((one) => one !== undefined);
    };
    expect(await heard()).toEqual([address]);
  });

  it("a device of ours that the rules do not know is closed", async () => {
    internet.run(
      "sh",
      "-c",
      `ip tuntap add dev svm999 mode tap; ip address add 10.98.0.1/30 dev svm999; ip link set svm999 up`,
    );
    const addresses = { index: 999, device: "svm999", gateway: "10.98.0.1", guest: "10.98.0.2", logGroup: 0 };
    const stray = await NamespaceGuest.start(tap, addresses, "02:00:00:00:00:99");
    const tries = [SITE, HOST.lan, "10.98.0.1"].map((address) => probe(address));
    expect((await stray.client(tries)).map(({ outcome }) => outcome)).not.toContain("ok");
    await stray[Symbol.asyncDispose]();
    internet.ip("link", "del", "svm999");
  });

  it("a VM whose own chains were emptied is closed, and its neighbours are not", async () => {
    const other = await tap.guest("o");
    tap.nft(`flush chain inet smolvm forward${guest.addresses.index}`);
    expect((await guest.try(probe(SITE))).outcome).not.toBe("ok");
    expect(await other.try(probe(SITE))).toMatchObject({ outcome: "ok" });
    expect(await tap.call("isInForce", tap.owner("n"))).toBe(false);
    await tap.call("repair");
    expect(await tap.call("isInForce", tap.owner("n"))).toBe(true);
    expect(await guest.try(probe(SITE))).toMatchObject({ outcome: "ok" });
  });

  it("a guest fills the host's table of connections no further than its limit", async () => {
    const count = () => Number(internet.run("cat", "/proc/sys/net/netfilter/nf_conntrack_count"));
    const before = count();
    const ends = { source: facts.address, destination: SITE };
    const macs = { source: facts.mac, destination: facts.gatewayMac };
    const many = Array.from({ length: CONNECTION_LIMIT + 1_000 }, (_, i) =>
      frame(macs, ETHER.ipv4, ipv4(ends, PROTOCOL.udp, udp(ends, 9, "x", 1_024 + i))),
    );
    await guest.frames(facts.device, many, WATCH_MS);
    // What comes at once is bounded by the burst, below the limit of what may be there.
    expect(count() - before).toBeGreaterThan(NEW_BURST / 2);
    expect(count() - before).toBeLessThan(CONNECTION_LIMIT + 100);
    // Another guest is not affected.
    await pause(WATCH_MS);
    const other = await tap.guest("r");
    expect(await other.try(probe(SITE))).toMatchObject({ outcome: "ok" });
  });
});
