// The isolation matrix: the same for every network mode, with two real VMs whose roots are hostile.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ETHER, readFrame } from "../support/frames.js";
import {
  FIRST_PORT,
  HOST,
  Internet,
  LAN_PORT,
  LOOPBACK_PORT,
  PORT_COUNT,
  PUBLIC,
  ROUTER,
} from "../support/internet.js";
import { type Guest, HostProgram } from "../support/internet-guest.js";
import type { Probe } from "../support/internet-tool.js";
import type { VMConfig, VMInfo } from "../support/smolvm.js";
import type { TestState } from "../support/state.js";
import { pause } from "../support/wait.js";
import { type Bed, expectAttacks } from "./attack.js";
import {
  flushedAttacks,
  ipv6Attacks,
  plainAttacks,
  routedAttacks,
  takeAddresses,
  takenAddressAttacks,
  takeRoutes,
  turnIpv6On,
} from "./client-attacks.js";
import {
  ipv6Frames,
  nosyQuestions,
  ordinaryFrames,
  policyFrames,
  rumours,
  spoofedToHost,
  spoofedToOutside,
  strangeLinks,
  strangePackets,
} from "./frame-attacks.js";

/** In guest B, forwarded from the host's loopback. */
const FORWARDED_PORT = 7_777;
const WATCH_MS = 700;

/** Rules are looked at every 2 s at most (src/vm/tap-checks.ts), in milliseconds and some more. */
const CHECK_INTERVAL_MS = 2_200;

/** The cases of one mode. */
export function isolationMatrix(mode: "user" | "tap", state: TestState): void {
  describe(`isolation in mode "${mode}"`, () => {
    let internet: Internet;
    let program: HostProgram;
    let bed: Bed;

    beforeAll(async () => {
      internet = await Internet.create({ zone: { "name.example.test": { a: [PUBLIC[1]] } } });
      program = await HostProgram.start(internet);
      const config = (extra: VMConfig = {}) => state.config({ network: mode, ...extra });
      const a = await (await program.create(config())).arm();
      const b = await (await program.create(config({ ports: [{ guest: FORWARDED_PORT }] }))).arm();
      await b.serve([
        ...(["tcp", "udp"] as const).map((kind) => ({
          ...{ kind, address: "0.0.0.0", port: FIRST_PORT, count: PORT_COUNT, name: "guest-b" },
        })),
        { kind: "tcp", address: "0.0.0.0", port: FORWARDED_PORT, name: "guest-b" },
      ]);
      bed = { mode, internet, a, b, factsA: await a.facts(), factsB: await b.facts() };
      // It is what the guests' own networks are made from.
      expect(bed.factsA).toMatchObject({ gatewayMac: expect.stringMatching(/^..:..:..:..:..:..$/) });
      expect(bed.factsA.address).not.toBe(bed.factsB.address);
    });

    afterAll(async () => {
      for (const guest of [bed?.a, bed?.b]) await guest?.delete();
      await program?.[Symbol.asyncDispose]();
      await internet?.expectNothingLeft().finally(() => internet[Symbol.asyncDispose]());
    });

    it("ordinary programs reach the outside and nothing else", () => expectAttacks(bed, plainAttacks(bed)));

    it("ordinary frames get out", () => expectAttacks(bed, ordinaryFrames(bed)));

    it("no frame reaches the host or another guest, whoever it says it is from", () =>
      expectAttacks(bed, spoofedToHost(bed)));

    it("no frame gets out with the address of another, or to what is closed", () =>
      expectAttacks(bed, spoofedToOutside(bed)));

    it("no strange MAC address or VLAN tag gets through", () => expectAttacks(bed, strangeLinks(bed)));

    it("no fragment, option or protocol gets through", () => expectAttacks(bed, strangePackets(bed)));

    it("no IPv6 gets through", () => expectAttacks(bed, ipv6Frames(bed)));

    it("addresses taken by the guest's root help it nowhere", async () => {
      const { add, remove } = takeAddresses(bed);
      await bed.a.sh(add);
      await expectAttacks(bed, takenAddressAttacks(bed));
      await bed.a.sh(remove);
    });

    it("IPv6 that the guest's root turns on helps it nowhere", async () => {
      await bed.a.sh(turnIpv6On(bed));
      await expectAttacks(bed, ipv6Attacks(bed));
    });

    it("the host believes nothing that a guest says of the network", async () => {
      const before = beliefs(internet);
      await bed.a.frames(bed.factsA.device, rumours(bed), WATCH_MS);
      expect(beliefs(internet)).toEqual(before);
      const [answer] = await internet.host.client([{ kind: "tcp", address: PUBLIC[0], port: FIRST_PORT, text: "x" }]);
      expect(answer).toMatchObject({ outcome: "ok" });
    });

    if (mode === "tap") {
      it("the host tells by ARP of no address but the gateway's", async () => {
        const questions = nosyQuestions(bed);
        const { received } = await bed.a.frames(
          bed.factsA.device,
          questions.map((question) => question.frame),
          WATCH_MS,
        );
        const told = received.map(({ hex }) => readFrame(hex)).filter(({ etherType }) => etherType === ETHER.arp);
        const others = told.map((one) => one.arp?.senderAddress).filter((address) => address !== bed.factsA.gateway);
        expect(others).toEqual([]);
      });
    }

    it("a forwarded port is for the host alone", async () => {
      const { a, b, factsA, factsB } = bed;
      const forward = await forwardOf(b);
      const text = "forwarded";
      const [byHost] = await internet.host.client([{ kind: "tcp", address: "127.0.0.1", port: forward, text }]);
      expect(byHost).toMatchObject({ outcome: "ok", reply: "guest-b:forwarded" });
      const tries: Probe[] = [HOST.lan, HOST.privateLan, HOST.bridge, factsA.gateway, factsB.gateway].map(
        (address) => ({ kind: "tcp", address, port: forward, text }),
      );
      tries.push({ kind: "tcp", address: factsB.address, port: FORWARDED_PORT, text });
      for (const outcome of await a.client(tries)) expect(outcome.outcome).not.toBe("ok");
      const outside = [HOST.lan, HOST.privateLan, "127.0.0.1"].map((address) => ({
        ...{ kind: "tcp" as const, address, port: forward, text },
      }));
      for (const outcome of await internet.outside.client(outside)) expect(outcome.outcome).not.toBe("ok");
    });

    it("the outside reaches neither guests nor what serves them", async () => {
      const { factsA, factsB } = bed;
      const guests = [factsA.address, factsB.address, factsA.gateway, factsB.gateway];
      for (const address of new Set(guests)) {
        internet.ipOutside("route", "replace", `${address}/32`, "via", HOST.lan);
      }
      const ports = [53, 29_653, FIRST_PORT, FORWARDED_PORT];
      const probes = [...new Set(guests)].flatMap((address) =>
        ports.flatMap((port) => [
          { kind: "tcp" as const, address, port, text: "in" },
          { kind: "udp" as const, address, port, text: "in" },
        ]),
      );
      const watched = await bed.b.watch(factsB.device);
      const outcomes = await internet.outside.client(probes);
      expect(probes.filter((_, i) => outcomes[i]?.outcome === "ok")).toEqual([]);
      const seen = (await watched()).map(({ hex }) => readFrame(hex));
      expect(seen.filter(({ source }) => source === "192.0.2.1")).toEqual([]);
    });

    if (mode === "tap") {
      it("the host reaches its guests by their addresses", async () => {
        const { b, factsB } = bed;
        const watched = await b.watch(factsB.device);
        const [answer] = await internet.host.client([
          { kind: "tcp", address: factsB.address, port: FORWARDED_PORT, text: "x" },
        ]);
        expect(answer).toMatchObject({ outcome: "ok", reply: "guest-b:x" });
        expect((await watched()).some(({ hex }) => readFrame(hex).port === FORWARDED_PORT)).toBe(true);
      });
    }

    it("the host's loopback is not behind the gateway, whatever the guest's routes say", async () => {
      await bed.a.sh(takeRoutes(bed));
      await expectAttacks(bed, routedAttacks(bed));
      const tries = ([LOOPBACK_PORT, 53, await forwardOf(bed.b)] as const).map((port) => ({
        ...{ kind: "tcp" as const, address: "127.0.0.1", port, text: "x", device: bed.factsA.device },
      }));
      const lan = { kind: "tcp" as const, address: HOST.lan, port: LAN_PORT, text: "x" };
      for (const outcome of await bed.a.client([...tries, lan])) expect(outcome.outcome).not.toBe("ok");
    });

    it("no frame goes where a policy does not lead, and another guest's policy stays its own", async () => {
      await bed.a.call("network.update", { allow: [PUBLIC[2], "name.example.test"] });
      await expectAttacks(bed, policyFrames(bed));
      const probe: Probe = { kind: "tcp", address: PUBLIC[0], port: FIRST_PORT, text: "x" };
      expect(await bed.a.try(probe)).toMatchObject({ outcome: "refused" });
      expect(await bed.b.try(probe)).toMatchObject({ outcome: "ok" });
      await bed.a.call("network.update", "open");
    });

    if (mode === "tap") {
      it("rules that somebody has flushed are there again with the next call", async () => {
        internet.run("nft", "flush", "ruleset");
        await pause(CHECK_INTERVAL_MS);
        await bed.a.exec(["true"]);
        await expectAttacks(bed, flushedAttacks(bed));
      });

      it("the host reaches a guest by its address also without a default route", async () => {
        internet.ip("route", "del", "default");
        const lone = await (await program.create(state.config({ network: mode }))).arm();
        const { address } = await lone.facts();
        await lone.serve([{ kind: "tcp", address: "0.0.0.0", port: FORWARDED_PORT, name: "lone" }]);
        const probe: Probe = { kind: "tcp", address, port: FORWARDED_PORT, text: "x" };
        expect(await internet.host.client([probe])).toMatchObject([{ outcome: "ok", reply: "lone:x" }]);
        await lone.delete();
        internet.ip("route", "add", "default", "via", ROUTER);
      });
    }

    it("after all that, both guests work", async () => {
      for (const guest of [bed.a, bed.b]) {
        const probe: Probe = { kind: "tcp", address: PUBLIC[2], port: FIRST_PORT, text: "x" };
        expect(await guest.try(probe)).toMatchObject({ outcome: "ok", reply: "outside:x" });
      }
    });
  });
}

async function forwardOf(guest: Guest): Promise<number> {
  const { ports } = await guest.call<VMInfo>("info");
  return ports[0]!.host;
}

/** Routes and neighbours of the host, as far as a guest might change them. */
function beliefs(internet: Internet): unknown {
  const known = JSON.parse(internet.ip("-j", "neigh", "show")) as { dst: string; dev: string; lladdr?: string }[];
  const neighbours = known.flatMap(({ dst, dev, lladdr }) => (lladdr === undefined ? [] : `${dst} ${dev} ${lladdr}`));
  return {
    neighbours: neighbours.sort(),
    routes: internet.ip("-4", "route", "show", "table", "all"),
    routes6: internet.ip("-6", "route", "show", "table", "all").replaceAll(/expires \d+sec/g, ""),
    addresses6: internet.ip("-6", "-o", "address", "show"),
  };
}
