// The rules of TAP networks against guests whose roots are hostile: namespaces of this machine's kernel behind real TAP
// devices. The matrix itself is the one that VMs run; see test/network.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Bed, expectAttacks } from "../network/attack.js";
import { plainAttacks, takeAddresses, takenAddressAttacks } from "../network/client-attacks.js";
import {
  ipv6Frames,
  nosyQuestions,
  ordinaryFrames,
  rumours,
  spoofedToHost,
  spoofedToOutside,
  strangeLinks,
  strangePackets,
} from "../network/frame-attacks.js";
import { ETHER, readFrame } from "../support/frames.js";
import { FIRST_PORT, gateInternet, Internet, PORT_COUNT } from "../support/internet.js";
import { type NamespaceGuest, TapBed } from "./tap-bed.js";

const reason = gateInternet();
const WATCH_MS = 500;

describe.skipIf(reason !== undefined)("the isolation matrix", () => {
  let internet: Internet;
  let tap: TapBed;
  let [a, b]: NamespaceGuest[] = [];
  let bed: Bed;

  beforeAll(async () => {
    internet = await Internet.create();
    tap = new TapBed(internet);
    a = await tap.guest("a");
    b = await tap.guest("b");
    await b.serve(
      (["tcp", "udp"] as const).map((kind) => ({
        ...{ kind, address: "0.0.0.0", port: FIRST_PORT, count: PORT_COUNT, name: "guest-b" },
      })),
    );
    bed = { mode: "tap", internet, a: a.asGuest, b: b.asGuest, factsA: await a.facts(), factsB: await b.facts() };
  });

  afterAll(async () => {
    await tap?.[Symbol.asyncDispose]();
    await internet?.[Symbol.asyncDispose]();
  });

  it.each([
    ["ordinary programs reach the outside and nothing else", plainAttacks],
    ["ordinary frames get out", ordinaryFrames],
    ["no frame reaches the host or another guest, whoever it says it is from", spoofedToHost],
    ["no frame gets out with another's address, or to what is closed", spoofedToOutside],
    ["no strange MAC address or VLAN tag gets through", strangeLinks],
    ["no fragment, option or protocol gets through", strangePackets],
    ["no IPv6 gets through", ipv6Frames],
  ] as const)("%s", (_name, attacks) => expectAttacks(bed, attacks(bed)));

  it("addresses that the guest's root takes help it nowhere", async () => {
    const { add, remove } = takeAddresses(bed);
    await a!.sh(add);
    await expectAttacks(bed, takenAddressAttacks(bed));
    await a!.sh(remove);
  });

  it("the host believes no rumour, and tells by ARP of no address but the gateway's", async () => {
    const neighbours = () =>
      internet.ip("neigh", "show", "nud", "reachable", "nud", "stale", "dev", a!.addresses.device);
    const before = [neighbours(), internet.ip("route", "show", "table", "all")];
    await a!.frames(bed.factsA.device, rumours(bed), WATCH_MS);
    expect([
      neighbours().replaceAll(/REACHABLE|STALE|DELAY/g, ""),
      internet.ip("route", "show", "table", "all"),
    ]).toEqual([before[0]!.replaceAll(/REACHABLE|STALE|DELAY/g, ""), before[1]]);
    const questions = nosyQuestions(bed).map(({ frame }) => frame);
    const { received } = await a!.frames(bed.factsA.device, questions, WATCH_MS);
    const told = received.map(({ hex }) => readFrame(hex)).filter(({ etherType }) => etherType === ETHER.arp);
    expect(told.map(({ arp }) => arp?.senderAddress).filter((one) => one !== bed.factsA.gateway)).toEqual([]);
  });

  it("afterwards both guests work", async () => {
    for (const guest of [a!, b!]) {
      const outcome = await guest.try({ kind: "tcp", address: "93.184.216.34", port: FIRST_PORT, text: "x" });
      expect(outcome).toMatchObject({ outcome: "ok", reply: "outside:x" });
    }
  });
});
