// The egress policy, the same cases for every network mode, with real VMs.

import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { FIRST_PORT, HOST, Internet } from "../support/internet.js";
import { type Guest, HostProgram } from "../support/internet-guest.js";
import type { Outcome, Probe } from "../support/internet-tool.js";
import { CallError } from "../support/line-child.js";
import type { TestState } from "../support/state.js";
import { eventually, pause, rejection } from "../support/wait.js";
import {
  BY_ADDRESS,
  EVIL,
  egressCases,
  GOOD,
  OTHER,
  POLICY,
  strayPackets,
  strayQuestions,
  strayRequests,
  wrongEndings,
  ZONE,
} from "./egress-cases.js";

interface Denial {
  readonly protocol: string;
  readonly address: string | null;
  readonly port: number | null;
  readonly name: string | null;
  readonly rule: string;
  readonly count: number;
  readonly allow: string | null;
}

const FORWARDED_PORT = 7_777;
const [TCP_OTHER, TCP_ALLOWED]: readonly [Probe, Probe] = [
  { kind: "tcp", address: OTHER, port: FIRST_PORT, text: "x" },
  { kind: "tcp", address: BY_ADDRESS, port: FIRST_PORT, text: "x" },
];
const TLS_ALLOWED: Probe = {
  ...{ kind: "tls", address: GOOD, port: 443, serverName: "api.exact.test", caFile: "/root/ca.pem" },
  ...{ text: "GET / HTTP/1.0\r\nHost: api.exact.test\r\n\r\n", readAll: true },
};
/** Tries what is closed again and again. */
const NOISE = `while :; do
  (echo x > /dev/tcp/${OTHER}/${FIRST_PORT}; echo x > /dev/udp/${OTHER}/${FIRST_PORT}) 2> /dev/null
  echo x >> /root/noise; sleep 0.2; done`;
const tlsTo = (serverName: string): Probe => ({ kind: "tls", address: GOOD, port: 443, serverName });
/** Each is refused by another rule; no other case here tries the same. */
const REFUSED_PROBES: readonly Probe[] = [
  { kind: "dns", name: "told.evil.test" },
  tlsTo("told.evil.test"),
  tlsTo("loop.good.test"),
  { kind: "tcp", address: GOOD, port: 80, text: "GET / HTTP/1.1\r\nHost: told.evil.test\r\n\r\n" },
  { kind: "tcp", address: OTHER, port: 20_204, text: "x" },
  { kind: "udp", address: GOOD, port: 20_205, text: "x" },
  { kind: "ping", address: "8.8.4.4", text: "x" },
  { kind: "tcp", address: HOST.privateLan, port: 20_206, text: "x" },
  { kind: "tcp", address: "169.254.169.254", port: 20_207, text: "x" },
  { kind: "tcp", address: "192.168.77.7", port: 20_208, text: "x" },
];
const DENIALS: readonly Partial<Denial>[] = [
  { protocol: "dns", name: "told.evil.test", rule: "name-not-allowed", allow: "told.evil.test" },
  { protocol: "tls", name: "told.evil.test", port: 443, rule: "name-not-allowed", allow: "told.evil.test:443" },
  { protocol: "http", name: "told.evil.test", port: 80, rule: "name-not-allowed", allow: "told.evil.test:80" },
  { protocol: "tls", name: "loop.good.test", rule: "private-answer" },
  { protocol: "tcp", address: OTHER, port: 20_204, rule: "not-allowed", allow: `${OTHER}:20204` },
  { protocol: "udp", address: GOOD, port: 20_205, rule: "not-allowed", allow: `${GOOD}:20205` },
  { protocol: "icmp", address: "8.8.4.4", rule: "not-allowed", allow: "8.8.4.4" },
  { protocol: "tcp", address: HOST.privateLan, port: 20_206, rule: "host", allow: null },
  { protocol: "tcp", address: "169.254.169.254", port: 20_207, rule: "never", allow: null },
  { protocol: "tcp", address: "192.168.77.7", port: 20_208, rule: "private" },
];
const [HELD_MS, DEAD_MS, QUIET_MS] = [60_000, 1_500, 3_000];

export function egressPolicy(mode: "user" | "tap", state: TestState): void {
  describe(`egress in mode "${mode}"`, () => {
    let internet: Internet;
    let program: HostProgram;
    let guest: Guest;

    beforeAll(async () => {
      internet = await Internet.create({ zone: ZONE });
      program = await HostProgram.start(internet);
      const network = { mode, egress: POLICY };
      guest = await (await program.create(state.config({ network, ports: [{ guest: FORWARDED_PORT }] }))).arm();
    });

    afterAll(async () => {
      await guest?.delete();
      await program?.[Symbol.asyncDispose]();
      await internet?.expectNothingLeft().finally(() => internet[Symbol.asyncDispose]());
    });

    async function expectNothingStray(): Promise<void> {
      expect(strayPackets(await internet.host.packets("up0"))).toEqual([]);
      expect(strayPackets(await internet.host.packets("br0"))).toEqual([]);
      expect(strayRequests(await internet.outside.contacts())).toEqual([]);
      const atHost = await internet.host.contacts();
      expect(strayQuestions(atHost)).toEqual([]);
      expect(atHost.filter(({ service }) => service !== "resolver")).toEqual([]);
    }

    /** What became of one probe. */
    async function ending(probe: Probe): Promise<Outcome["outcome"]> {
      return (await guest.try(probe)).outcome;
    }

    function update(policy: unknown): Promise<void> {
      return guest.call("network.update", policy);
    }

    it("lets through what it allows, and refuses the rest at once", async () => {
      const cases = egressCases();
      const outcomes = await guest.client(cases.map(({ probe }) => ({ timeoutMs: 8_000, ...probe })));
      const wrong = wrongEndings(cases, outcomes);
      expect(wrong, `${wrong.length} of ${cases.length} cases in mode "${mode}"`).toEqual([]);
      await expectNothingStray();
    });

    it("works for the guest's own programs", async () => {
      const curl = (...args: string[]) => guest.exec(["curl", "-sS", "--max-time", "10", ...args]);
      const good = await curl("--cacert", "/root/ca.pem", "https://www.good.test/path");
      expect(JSON.parse(good.stdout)).toMatchObject({ host: "www.good.test", path: "/path" });
      const bad = await curl("-o", "-", "-w", "%{http_code}", `http://evil.test/`, "--resolve", `evil.test:80:${EVIL}`);
      expect(bad.stdout).toMatch(/evil\.test:80[\s\S]*403$/);
      expect((await curl("https://evil.test/")).stderr).toMatch(/Could not resolve host/);
      await expectNothingStray();
    });

    it("tells what it has refused, by which rule, and what would allow it", async () => {
      await pause(QUIET_MS); // Only so many are written each second.
      await guest.client(REFUSED_PROBES);
      const denials = await guest.call<Denial[]>("network.denials");
      for (const wanted of DENIALS) expect(denials).toContainEqual(expect.objectContaining(wanted));
      const log = await guest.call("logs", { source: "network" });
      expect(log).toContain("told.evil.test");
    });

    it("names the entry that is wrong, and keeps the policy in force", async () => {
      for (const entry of ["*", "https://api.exact.test", "10.0.0.1/8", "a.test:0", "a b.test"]) {
        const error = await rejection(update({ allow: ["api.exact.test", entry] }));
        expect(error).toMatchObject({ code: "INVALID_CONFIG", details: { field: "egress.allow[1]" } });
      }
      expect(await ending(TLS_ALLOWED)).toBe("ok");
      expect(await ending(TCP_OTHER)).toBe("refused");
    });

    it("changes at once: what is refused now ends, what is allowed goes on", async () => {
      const ends = guest.try({ kind: "hold", address: BY_ADDRESS, port: FIRST_PORT + 1, timeoutMs: HELD_MS });
      const stays = guest.try({ kind: "hold", address: `${EVIL}`, port: 25, timeoutMs: 4_000 });
      const arrived = async (service: string, port: number) =>
        (await internet.outside.contacts()).some((one) => one.service === service && one.port === port);
      await eventually(async () => (await arrived("outside", FIRST_PORT + 1)) || undefined);
      await update({ allow: ["api.exact.test", `${EVIL}:25`] });
      expect((await ends).outcome).not.toBe("ok");
      expect(await stays).toMatchObject({ outcome: "ok", reply: "held" });
      expect(await ending(TCP_ALLOWED)).toBe("refused");
      expect(await ending(TLS_ALLOWED)).toBe("ok");
      expect((await guest.try({ ...TLS_ALLOWED, serverName: "a.good.test" })).outcome).toBe("alert");
      await expectNothingStray();
    });

    it("off: nothing at all, but forwarded ports", async () => {
      await update("off");
      const outcomes = await guest.client([
        TCP_OTHER,
        TCP_ALLOWED,
        { ...TLS_ALLOWED, text: "" },
        { kind: "ping", address: BY_ADDRESS, text: "x" },
        { kind: "udp", address: BY_ADDRESS, port: FIRST_PORT, text: "x" },
      ]);
      for (const { outcome } of outcomes) expect(["refused", "prohibited", "unreachable"]).toContain(outcome);
      expect(await guest.try({ kind: "dns", name: "api.exact.test", edns: true })).toMatchObject({
        lookup: { rcode: 5, ede: 18 },
      });
      await guest.serve([{ kind: "tcp", address: "127.0.0.1", port: FORWARDED_PORT, name: "guest" }]);
      const { ports } = await guest.call<{ ports: { host: number }[] }>("info");
      const port = ports[0]!.host;
      expect(await internet.host.client([{ kind: "tcp", address: "127.0.0.1", port, text: "x" }])).toMatchObject([
        { outcome: "ok", reply: "guest:x" },
      ]);
      await expectNothingStray();
    });

    it("is on record, and in force before a guest's first packet after a restart, a pause and a fork", async () => {
      await update(POLICY);
      await guest.call("detach", NOISE);
      await guest.call("pause");
      await guest.call("resume");
      const [child] = await guest.call<({ ok: boolean; vmId: string } | undefined)[]>("fork");
      const other = program.guest(child?.vmId ?? "");
      const noise = async (one: Guest) => Number(await one.sh("wc -c < /root/noise"));
      const before = await noise(other);
      await eventually(async () => ((await noise(other)) > before ? true : undefined));
      expect((await other.try(TLS_ALLOWED)).outcome).toBe("ok");
      expect((await other.try(TCP_OTHER)).outcome).toBe("refused");
      await other.delete();
      await guest.call("stop");
      await guest.call("start");
      expect(await guest.call("info")).toMatchObject({ egress: POLICY });
      expect(await ending(TCP_OTHER)).toBe("refused");
      expect(await ending(TLS_ALLOWED)).toBe("ok");
      await expectNothingStray();
    });

    it("is closed while what enforces it is dead, and comes back by the next call", async () => {
      await guest.call("detach", NOISE);
      for (const name of ENFORCERS[mode]) {
        const pids = pidsOf(internet, name);
        expect(pids, name).not.toEqual([]);
        for (const pid of pids) process.kill(pid, "SIGKILL");
        await pause(DEAD_MS);
        await expectNothingStray();
        await eventually(async () => ((await ending(TLS_ALLOWED)) === "ok" ? true : undefined));
        expect(await ending(TCP_ALLOWED)).toBe("ok");
        expect(await ending(TCP_OTHER)).toBe("refused");
      }
      await expectNothingStray();
    });

    it("open: everything but the host and what is private", async () => {
      await update("open");
      const outcomes = await guest.client([
        TCP_OTHER,
        { ...TLS_ALLOWED, serverName: "evil.test", address: EVIL },
        { kind: "tcp", address: "192.168.77.7", port: FIRST_PORT, text: "x" },
        { kind: "tcp", address: "10.9.9.9", port: FIRST_PORT, text: "x" },
        { kind: "tcp", address: HOST.lan, port: FIRST_PORT, text: "x" },
      ]);
      expect(outcomes.map(({ outcome }) => outcome)).toEqual(["ok", "ok", "refused", "refused", "refused"]);
    });

    it("0.0.0.0/0 opens no private address", async () => {
      await update({ allow: ["0.0.0.0/0"] });
      const outcomes = await guest.client([
        TCP_OTHER,
        { kind: "tcp", address: "192.168.77.7", port: FIRST_PORT, text: "x" },
        { kind: "tcp", address: HOST.lan, port: FIRST_PORT, text: "x" },
        { kind: "tcp", address: "169.254.169.254", port: FIRST_PORT, text: "x" },
      ]);
      expect(outcomes.map(({ outcome }) => outcome)).toEqual(["ok", "refused", "refused", "refused"]);
    });

    it("is not changed for a VM without a network", async () => {
      const lone = await program.create(state.config());
      const error = await rejection(lone.call("network.update", "off"));
      expect(error).toBeInstanceOf(CallError);
      expect(error.code).toBe("UNSUPPORTED");
      await lone.delete();
    });
  });
}

/** Programs that enforce a policy, or carry what it allows, by mode. */
const ENFORCERS = { user: ["netguard", "passt"], tap: ["tapguard"] } as const;

/** Processes of the host namespace whose program's name begins so. */
function pidsOf(internet: Internet, name: string): number[] {
  const pids = execFileSync("ip", ["netns", "pids", internet.names.host], { encoding: "utf8" }).split("\n");
  return pids.filter((pid) => pid !== "" && comm(pid).startsWith(name)).map(Number);
}

function comm(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, "utf8");
  } catch {
    return "";
  }
}
