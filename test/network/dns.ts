// DNS as the host has it, the same cases for every network mode.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Internet, PUBLIC } from "../support/internet.js";
import { type Guest, HostProgram } from "../support/internet-guest.js";
import type { Lookup, Probe, Zone } from "../support/internet-tool.js";
import type { TestState } from "../support/state.js";

const [ADDRESS, SECOND] = PUBLIC;
const MANY = Array.from({ length: 60 }, (_, i) => `203.0.113.${i + 100}`);
const ZONE: Zone = {
  "name.example.test": { a: [ADDRESS] },
  "name.corp.test": { a: [SECOND] },
  "alias.example.test": { cname: "name.example.test" },
  "long.example.test": { txt: "x".repeat(3_000) },
  "many.example.test": { a: MANY },
  "broken.example.test": { rcode: 2 },
  "elsewhere.test": { a: ["1.2.3.4"] },
};
const RESOLV_CONF = "nameserver 127.0.0.53\nsearch corp.test example.test\n";
/** Nobody has this address. */
const DEAD = "nameserver 192.0.2.99\n";
const [SERVFAIL, NXDOMAIN] = [2, 3];
const AT_ONCE = 150;

export function dnsAsTheHostHasIt(mode: "user" | "tap", state: TestState): void {
  describe(`DNS in mode "${mode}"`, () => {
    let internet: Internet;
    let program: HostProgram;
    let guest: Guest;

    beforeAll(async () => {
      internet = await Internet.create({ zone: ZONE, resolvConf: RESOLV_CONF });
      program = await HostProgram.start(internet);
      guest = await (await program.create(state.config({ network: mode }))).arm();
    });

    afterAll(async () => {
      await guest?.delete();
      await program?.[Symbol.asyncDispose]();
      await internet?.expectNothingLeft().finally(() => internet[Symbol.asyncDispose]());
    });

    async function look(name: string, extra: Partial<Probe> = {}): Promise<Lookup | undefined> {
      return (await guest.try({ kind: "dns", name, timeoutMs: 15_000, ...extra })).lookup;
    }

    it("answers whatever the host's resolvers answer", async () => {
      expect(await look("name.example.test")).toMatchObject({ rcode: 0, answers: [ADDRESS] });
      expect(await look("alias.example.test")).toMatchObject({ answers: ["CNAME name.example.test", ADDRESS] });
      expect(await look("nothing.example.test")).toMatchObject({ rcode: NXDOMAIN, answers: [] });
      expect(await look("broken.example.test")).toMatchObject({ rcode: SERVFAIL });
      expect(await look("name.example.test", { type: "AAAA" })).toMatchObject({ rcode: 0, answers: [] });
    });

    it("answers at any length, by TCP where an answer is said to be too long for UDP", async () => {
      const whole = async (name: string, extra: Partial<Probe> = {}) => {
        const byUdp = await look(name, extra);
        return byUdp?.isTruncated === true ? look(name, { ...extra, byTcp: true }) : byUdp;
      };
      expect((await whole("many.example.test"))?.answers).toEqual(MANY);
      // With a byte of length for each 255.
      expect((await whole("long.example.test", { type: "TXT" }))?.answers).toEqual(["TXT 3012"]);
    });

    if (mode === "tap") {
      it("answers by TCP what is asked by TCP", async () => {
        expect(await look("name.example.test", { byTcp: true })).toMatchObject({ answers: [ADDRESS] });
      });
    }

    it("serves the C library, with the host's search domains in their order", async () => {
      const hosts = async (name: string) => (await guest.exec(["getent", "ahostsv4", name])).stdout.split(/\s/)[0];
      expect(await hosts("name")).toBe(SECOND);
      expect(await hosts("alias")).toBe(ADDRESS);
      expect(await hosts("elsewhere.test")).toBe("1.2.3.4");
      expect(await hosts("many.example.test")).toMatch(/^203\.0\.113\./);
      expect(await guest.sh("grep ^search /etc/resolv.conf")).toBe("search corp.test example.test");
    });

    it("asks from the host alone, and nothing else comes of it", async () => {
      const contacts = await internet.host.contacts();
      expect(new Set(contacts.map(({ service, from }) => `${service} ${from}`))).toEqual(
        new Set(["resolver 127.0.0.1"]),
      );
    });

    it(`answers ${AT_ONCE} questions at once, and after rubbish`, async () => {
      const [server = ""] = (await guest.facts()).resolvers;
      const rubbish = ["", "\0", "no question", "\0".repeat(11), "\xff".repeat(600)].map((text) => ({
        ...{ kind: "udp" as const, address: server, port: 53, text, timeoutMs: 300 },
      }));
      await guest.client(rubbish);
      const questions = Array.from({ length: AT_ONCE }, () => ({
        ...{ kind: "dns" as const, name: "name.example.test", timeoutMs: 15_000 },
      }));
      const answers = (await guest.client(questions)).map(({ lookup }) => lookup?.answers[0]);
      expect(answers.filter((answer) => answer !== ADDRESS)).toEqual([]);
    });

    it("leaves out a resolver that is dead", async () => {
      internet.setResolvConf(`${DEAD}${RESOLV_CONF}`);
      const other = await (await program.create(state.config({ network: mode }))).arm();
      const outcome = await other.try({ kind: "dns", name: "name.example.test", timeoutMs: 20_000 });
      expect(outcome.lookup?.answers).toEqual([ADDRESS]);
      await other.delete();
    });
  });
}
