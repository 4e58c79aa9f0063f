// The sentinel of a TAP device against the library's own rules: it misses every part of them, and no change of the library's
// own. What it does beside that is tested with simpler rules in agent/cmd/tapguard.

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { chownSync, closeSync, mkdirSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Writable } from "node:stream";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { gateInternet, Internet } from "../support/internet.js";
import { eventually } from "../support/wait.js";
import { type Addresses, allow, OFF, OPEN, TapBed, VMM_UID } from "./tap-bed.js";

const reason = gateInternet();
const AGENT = join(import.meta.dirname, "../../agent");
const POLICY = { mode: "open", names: [], networks: [], resolvers: ["127.0.0.53:53"] };

interface Listed {
  readonly chain?: { readonly family: string; readonly name: string };
  readonly set?: { readonly family: string; readonly name: string };
  readonly map?: { readonly family: string; readonly name: string };
  readonly rule?: { readonly family: string; readonly chain: string; readonly handle: number };
}

describe.skipIf(reason !== undefined)("the sentinel of a TAP device", () => {
  let internet: Internet;
  let tap: TapBed;
  let guardPath: string;
  let guard: ChildProcess | undefined;

  beforeAll(async () => {
    internet = await Internet.create();
    tap = new TapBed(internet);
    guardPath = join(tap.work, "tapguard");
    const env = { ...process.env, CGO_ENABLED: "0", GOTOOLCHAIN: "local", GOPROXY: "off", GOFLAGS: "-mod=mod" };
    execFileSync("go", ["build", "-o", guardPath, "./cmd/tapguard"], { cwd: AGENT, env });
  });

  afterEach(async () => {
    if (guard !== undefined && guard.exitCode === null && guard.signalCode === null) {
      guard.kill("SIGKILL");
      await once(guard, "exit");
    }
    await tap.reset();
  });

  afterAll(async () => {
    await tap?.[Symbol.asyncDispose]();
    await internet?.[Symbol.asyncDispose]();
  });

  const logPath = () => join(tap.work, "guard.log");

  /** Starts a guard for a network that is there, as src/network/tap/tap-guard.ts does. */
  async function watch({ device, gateway, guest, logGroup }: Addresses): Promise<void> {
    const directory = join(tap.work, "guard");
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    chownSync(directory, VMM_UID, VMM_UID);
    const log = openSync(logPath(), "w");
    const argv = [
      ...[...internet.onHost, guardPath, "-device", device, "-gateway", gateway, "-guest", guest],
      ...["-nflog-group", String(logGroup), "-policy-fd", "3", "-ready-fd", "4", "-control", "ctl.sock"],
    ];
    const [file = "", ...args] = argv;
    guard = spawn(file, args, { cwd: directory, stdio: ["ignore", "ignore", log, "pipe", "pipe"] });
    closeSync(log);
    (guard.stdio[3] as Writable).end(JSON.stringify(POLICY));
    const [line] = (await once(guard.stdio[4]!, "data")) as [Buffer];
    expect(line.toString()).toBe("ready\n");
  }

  function isUp(device: string): boolean {
    const [link] = JSON.parse(internet.ip("-j", "link", "show", "dev", device)) as { flags: string[] }[];
    return link?.flags.includes("UP") ?? false;
  }

  const becomes = (device: string, state: boolean) => eventually(() => (isUp(device) === state ? true : undefined));
  const listed = () => (JSON.parse(tap.nft("-j", "list", "ruleset")) as { nftables: Listed[] }).nftables;

  it("misses every rule, and all elements of every set that the library has made", async () => {
    const network = await tap.setUp("a", { rateLimitMbps: 8, policy: allow([{ cidr: "203.0.113.0/24" }], [443]) });
    await watch(network);
    const rules = listed().flatMap(({ rule }) => rule ?? []);
    expect(rules.length).toBeGreaterThan(50);
    // The devices on which the host forwards: that is not about this guest.
    const sets = listed().flatMap(({ set, map }) => [
      ...(set === undefined ? [] : [{ kind: "set", ...set }]),
      ...(map === undefined ? [] : [{ kind: "map", ...map }]),
    ]);
    const own = sets.filter(({ name }) => name !== "guarded" && !name.startsWith("__"));
    expect(own.length).toBeGreaterThan(9);
    const removals = [
      ...rules.map((_, i) => () => {
        // Handles are others after each repair; the order is the same.
        const { family, chain, handle } = listed().flatMap(({ rule }) => rule ?? [])[i]!;
        return `delete rule ${family} smolvm ${chain} handle ${handle}`;
      }),
      ...own.map(
        ({ kind, family, name }) =>
          () =>
            `flush ${kind} ${family} smolvm ${name}`,
      ),
    ];
    for (const removal of removals) {
      const command = removal();
      tap.nft(command);
      await becomes(network.device, false).catch(() => expect.fail(`still up after nft ${command}`));
      expect(await tap.call("isInForce", tap.owner("a"))).toBe(false);
      await tap.call("repair");
      await becomes(network.device, true);
    }
    expect(await tap.call("isInForce", tap.owner("a"))).toBe(true);
  });

  it("misses nothing while the library changes its rules, those of this guest and of others", async () => {
    const network = await tap.setUp("a");
    await watch(network);
    for (let round = 0; round < 3; round++) {
      for (const policy of [OFF, allow([{ cidr: "203.0.113.7/32" }], [80, 443]), OPEN]) {
        await tap.call("update", tap.owner("a"), policy);
      }
      await tap.setUp("b", { rateLimitMbps: 8 });
      await tap.call("repair");
      await tap.call("tearDown", tap.owner("b"));
      await tap.call("settled");
    }
    // It has seen all that when it sees this.
    tap.nft("flush chain inet smolvm forward");
    await becomes(network.device, false);
    const log = readFileSync(logPath(), "utf8");
    expect(log).toBe(`sentinel: ${network.device}: not in force: rules of chain forward: down\n`);
  });

  it("leaves alone what is taken down, and goes with a device that is removed", async () => {
    const network = await tap.setUp("a");
    await watch(network);
    internet.ip("link", "set", "dev", network.device, "down");
    tap.nft("flush ruleset");
    await tap.call("repair");
    await tap.setUp("b");
    expect(isUp(network.device)).toBe(false);
    internet.ip("link", "set", "dev", network.device, "up");
    await tap.call("tearDown", tap.owner("a"));
    await tap.call("settled");
    tap.nft("flush ruleset");
    await tap.setUp("b");
    guard?.kill("SIGKILL");
    await eventually(() => (guard?.signalCode === null ? undefined : true));
    expect(isUp("svm1")).toBe(true);
    expect(readFileSync(logPath(), "utf8")).toBe("");
  });
});
