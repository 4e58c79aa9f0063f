// Hosts that cannot do TAP networks, and leases that many processes ask for at once.

import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { gateInternet, Internet } from "../support/internet.js";
import { TapBed } from "./tap-bed.js";

const reason = gateInternet();
const PROCESSES = 8;
const LEASES = 1_000;

describe.skipIf(reason !== undefined)("a host", () => {
  let internet: Internet;
  let tap: TapBed;

  beforeAll(async () => {
    internet = await Internet.create();
    tap = new TapBed(internet);
  });

  afterAll(async () => {
    await tap?.[Symbol.asyncDispose]();
    await internet?.[Symbol.asyncDispose]();
  });

  /** A directory with a program that fails with these words. */
  function failing(program: string, words: string): string {
    const directory = join(tap.work, `fake-${program}`);
    mkdirSync(directory, { recursive: true });
    writeFileSync(join(directory, program), `#!/bin/sh\necho '${words}' >&2\nexit 1\n`, { mode: 0o755 });
    return `${directory}:${process.env["PATH"]}`;
  }

  /** Goes before a program that is to see something else in the place of a file of this machine. */
  const mounted = (what: string) => ["unshare", "-m", "sh", "-c", `mount ${what} && exec "$@"`, "-"];
  const hidden = (path: string) => mounted(`--bind /dev/null ${path}`);

  it("with everything is taken", async () => {
    await expect(tap.call("requireTapHost")).resolves.toBeNull();
    await expect(tap.call("requireTapHost", { hasRateLimit: true })).resolves.toBeNull();
    // Also where there are VMs, and nothing is left of the trial.
    await tap.setUp("a");
    const before = tap.nft("list", "ruleset");
    const other = await tap.driver();
    await expect(other.ask({ call: "requireTapHost" })).resolves.toBeNull();
    expect(tap.nft("list", "ruleset")).toBe(before);
  });

  it.each([
    ["without nft", hidden("/usr/sbin/nft"), {}, "nft"],
    ["without ip", hidden("$(readlink -f /usr/sbin/ip)"), {}, "ip"],
    ["without tc, where a rate is limited", hidden("/usr/sbin/tc"), { hasRateLimit: true }, "tc"],
    ["without the right to administer the network", ["setpriv", "--bounding-set=-net_admin"], {}, "CAP_NET_ADMIN"],
    ["without that to serve DNS", ["setpriv", "--bounding-set=-net_bind_service"], {}, "CAP_NET_BIND_SERVICE"],
    ["without /dev/net/tun", mounted("-t tmpfs none /dev/net"), {}, "/dev/net/tun"],
    ["with settings that cannot be written", mounted("-o bind,ro /proc/sys /proc/sys"), {}, "/proc/sys"],
  ])("%s is refused, with a hint", async (_name, wrap, needs, word) => {
    const driver = await tap.driver({}, wrap);
    await expect(driver.ask({ call: "requireTapHost", args: [needs] })).rejects.toMatchObject({
      code: "HOST_UNSUPPORTED",
      message: expect.stringContaining(word),
      hint: expect.stringContaining('network "user"'),
    });
  });

  it.each([
    ["too old for JSON", "Error: JSON support not compiled-in"],
    ["refused by the kernel", "internal:0:0-0: Error: Could not process rule: Operation not supported"],
  ])("whose nft is %s is refused with what it says", async (_name, words) => {
    const driver = await tap.driver({}, [], { ...process.env, PATH: failing("nft", words) });
    await expect(driver.ask({ call: "requireTapHost" })).rejects.toMatchObject({
      code: "HOST_UNSUPPORTED",
      message: expect.stringContaining(words.split("Error: ")[1] ?? ""),
      details: { stderr: expect.stringContaining(words) },
    });
  });

  it(`gives ${LEASES} leases to ${PROCESSES} processes, all distinct`, async () => {
    await tap.reset();
    const drivers = await Promise.all(Array.from({ length: PROCESSES }, () => tap.driver()));
    const given = await Promise.all(
      drivers.flatMap((driver, d) =>
        Array.from({ length: LEASES / PROCESSES }, (_, i) =>
          driver.ask<number>({ call: "lease", args: [tap.owner(`${d}-${i}`)] }),
        ),
      ),
    );
    expect([...new Set(given)].sort((a, b) => a - b)).toEqual(Array.from({ length: LEASES }, (_, i) => i));
  });

  it("says so when the pool is used up", async () => {
    await tap.reset();
    const driver = await tap.driver({ leases: 2 });
    const lease = (vmId: string) => driver.ask<number>({ call: "lease", args: [tap.owner(vmId)] });
    expect([await lease("a"), await lease("b")]).toEqual([0, 1]);
    await expect(lease("c")).rejects.toMatchObject({ code: "NETWORK_FAILED", details: { held: 2, leases: 2 } });
    await driver.ask({ call: "release", args: [{ index: 0, owner: tap.owner("a") }] });
    await expect(lease("c")).rejects.toMatchObject({ code: "NETWORK_FAILED", details: { held: 1, leases: 2 } });
  });

  it("has one lock, which ends with its holder", async () => {
    await tap.reset();
    const [first, second] = [await tap.driver(), await tap.driver()];
    await first.ask({ call: "takeLock", args: [5_000] });
    await expect(second.ask({ call: "takeLock", args: [200] })).rejects.toMatchObject({ code: "BUSY" });
    // What needs the lock waits for it, also in the program that holds it.
    const waiting = second.ask({ call: "takeLock", args: [5_000] });
    await expect(first.ask({ call: "takeLock", args: [200] })).rejects.toMatchObject({ code: "BUSY" });
    await first.end(true);
    await waiting;
    const third = await tap.driver();
    const setUp = third.ask({ call: "setUp", args: [tap.request("a")] });
    await second.ask({ call: "letGo" });
    await setUp;
    rmSync(tap.stateDir, { recursive: true });
  });
});
