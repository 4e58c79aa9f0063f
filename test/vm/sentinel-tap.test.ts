// Network "tap": what a guest reaches when somebody removes the rules, or kills what serves it, and nothing is called.

import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readFrame } from "../support/frames.js";
import { FIRST_PORT, gateInternet, HOST, Internet, PUBLIC } from "../support/internet.js";
import { type Guest, HostProgram } from "../support/internet-guest.js";
import { type Facts, type Mark, NetServer, type Probe } from "../support/internet-tool.js";
import { testState } from "../support/state.js";
import { eventually, pause } from "../support/wait.js";

const reason = gateInternet();
const state = testState();
/** Where tapguard's proxy listens; see src/network/tap/vm-rules.ts. */
const PROXY_PORT = 29_653;
/** Longer than some rounds of the guest's noise, in milliseconds. */
const QUIET_MS = 1_500;
const OUT: Probe = { kind: "tcp", address: PUBLIC[0], port: FIRST_PORT, text: "x" };

describe.skipIf(reason !== undefined)("a TAP network that somebody breaks", () => {
  let internet: Internet;
  let program: HostProgram;
  let guest: Guest;
  let facts: Facts;
  let device: string;

  beforeAll(async () => {
    internet = await Internet.create({ zone: { "name.example.test": { a: [PUBLIC[1]] } } });
    program = await HostProgram.start(internet);
    guest = await (await program.create(state.config({ network: "tap" }))).arm();
    facts = await guest.facts();
    const links = JSON.parse(internet.ip("-j", "link")) as { ifname: string }[];
    device = links.find(({ ifname }) => ifname.startsWith("svm"))?.ifname ?? "";
    // It goes on by itself: what it tries after a change needs no call.
    const targets = [PUBLIC[0], HOST.lan, HOST.bridge, facts.gateway].map((address) => `${address}/${FIRST_PORT}`);
    const ports = [53, PROXY_PORT].map((port) => `${facts.gateway}/${port}`);
    const tries = [...targets, ...ports].flatMap((target) =>
      ["udp", "tcp"].map((protocol) => `(timeout 1 bash -c "echo x > /dev/${protocol}/${target}" 2> /dev/null) &`),
    );
    await guest.call("detach", `while :; do ${tries.join(" ")} sleep 0.1; done`);
  });

  afterAll(async () => {
    await guest?.delete();
    await program?.[Symbol.asyncDispose]();
    await internet?.expectNothingLeft().finally(() => internet[Symbol.asyncDispose]());
  });

  const marks = async () => ({ host: await internet.host.mark(), outside: await internet.outside.mark() });

  /** Who came since, on the host and outside, to anything that answers: packets that only pass are not among them. */
  async function arrivals(since: { readonly host: Mark; readonly outside: Mark }): Promise<string[]> {
    const atHost = (await internet.host.contacts(since.host)).filter(({ service }) => service === "host");
    const contacts = [...atHost, ...(await internet.outside.contacts(since.outside))];
    const packets = (await internet.host.packets("up0", since.host)).filter(({ isOutgoing }) => isOutgoing);
    const fromGuest = packets.map(({ hex }) => readFrame(hex)).filter(({ source }) => source === facts.address);
    return [...contacts.map(({ address, port }) => `${address}:${port}`), ...fromGuest.map(() => "a packet on up0")];
  }

  function isUp(): boolean {
    const [link] = JSON.parse(internet.ip("-j", "link", "show", "dev", device)) as { flags: string[] }[];
    return link?.flags.includes("UP") ?? false;
  }

  async function expectClosed(): Promise<void> {
    await eventually(() => (isUp() ? undefined : true));
    await pause(50); // What was on its way has arrived.
    const since = await marks();
    await pause(QUIET_MS);
    expect(await arrivals(since)).toEqual([]);
    expect(isUp()).toBe(false);
  }

  async function expectMended(): Promise<void> {
    await eventually(async () => ((await guest.try(OUT)).outcome === "ok" ? true : undefined));
    expect(await guest.try({ kind: "dns", name: "name.example.test" })).toMatchObject({ outcome: "ok" });
    expect((await guest.try({ ...OUT, address: HOST.lan })).outcome).toBe("refused");
    const since = await marks();
    await eventually(async () => ((await arrivals(since)).includes(`${PUBLIC[0]}:${FIRST_PORT}`) ? true : undefined));
  }

  /** Processes of the host namespace with this argv[0]. */
  function pidsOf(name: RegExp): number[] {
    const pids = execFileSync("ip", ["netns", "pids", internet.names.host], { encoding: "utf8" }).split("\n");
    return pids
      .filter((pid) => pid !== "")
      .map(Number)
      .filter((pid) => name.test(readFileSync(`/proc/${pid}/cmdline`, "latin1").split("\0")[0] ?? ""));
  }

  const [SENTINEL, GUARD] = [/^tapguard-sentinel$/, /\/tapguard-[^/]+$/];

  it.each(["flush ruleset", "delete table inet smolvm", "flush chain inet smolvm forward"])(
    "lets nothing pass after nft %s, and is mended by the next call",
    async (gone) => {
      internet.run("nft", gone);
      await expectClosed();
      await expectMended();
    },
  );

  it("would let everything pass to which the host's own rules have no objection", async () => {
    const [sentinel = 0, ...others] = pidsOf(SENTINEL);
    expect(others).toEqual([]);
    process.kill(sentinel, "SIGSTOP");
    const since = await marks();
    try {
      internet.run("nft", "flush ruleset");
      await eventually(async () => ((await arrivals(since)).includes(`${HOST.lan}:${FIRST_PORT}`) ? true : undefined));
    } finally {
      process.kill(sentinel, "SIGCONT");
    }
    await expectClosed();
    await expectMended();
  });

  it("lets nothing pass to whoever takes the place of a guard that was killed, and is mended by the next call", async () => {
    for (const pid of pidsOf(GUARD)) process.kill(pid, "SIGKILL");
    await eventually(() => (isUp() ? undefined : true));
    const services = (["tcp", "udp"] as const).flatMap((kind) => [
      { kind, address: facts.gateway, port: 53, name: "other" },
      { kind, address: "0.0.0.0", port: PROXY_PORT, name: "other" },
    ]);
    {
      await using others = await NetServer.start(internet.tool, internet.onHost, { services });
      await expectClosed();
      expect(await others.contacts()).toEqual([]);
      internet.ip("link", "set", device, "up"); // The rules are not in their way.
      await eventually(async () => ((await others.contacts()).length > 0 ? true : undefined));
      internet.ip("link", "set", device, "down");
    }
    await expectMended();
    expect(pidsOf(SENTINEL)).toHaveLength(1);
  });

  it("gets both back when the sentinel was killed", async () => {
    const before = [...pidsOf(SENTINEL), ...pidsOf(GUARD)];
    expect(before).toHaveLength(2);
    process.kill(before[0] ?? 0, "SIGKILL");
    await eventually(() => (pidsOf(GUARD).length === 0 ? true : undefined));
    await expectMended();
    const after = [...pidsOf(SENTINEL), ...pidsOf(GUARD)];
    expect(after).toHaveLength(2);
    expect(after.filter((pid) => before.includes(pid))).toEqual([]);
    internet.run("nft", "flush ruleset");
    await expectClosed();
    await expectMended();
  });

  it("is closed by the next call where no guard can start, and mended when one can", async () => {
    process.kill(pidsOf(SENTINEL)[0] ?? 0, "SIGKILL");
    await eventually(() => (pidsOf(GUARD).length === 0 ? true : undefined));
    expect(isUp()).toBe(true);
    const services = [{ kind: "tcp" as const, address: "0.0.0.0", port: PROXY_PORT, name: "other" }];
    {
      await using _other = await NetServer.start(internet.tool, internet.onHost, { services });
      expect((await guest.try(OUT)).outcome).not.toBe("ok");
      expect(isUp()).toBe(false);
    }
    await expectMended();
  });

  it("leaves no connection of its guest in the host's tables", async () => {
    // Those that it began: the address comes first in their line.
    const isOurs = (line: string) => line.split(" src=")[1]?.startsWith(`${facts.address} `) === true;
    const tracked = () => internet.run("cat", "/proc/net/nf_conntrack").split("\n").filter(isOurs);
    await eventually(() => (tracked().length > 0 ? true : undefined));
    await guest.call("stop");
    await eventually(() => (tracked().length === 0 ? true : undefined));
    await guest.call("start");
    expect((await guest.try(OUT)).outcome).toBe("ok");
  });
});
