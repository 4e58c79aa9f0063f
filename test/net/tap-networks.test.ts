// TAP networks from set-up to removal: devices, settings, rules and leases, with everything that others and crashes do to
// them meanwhile.

import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { gateInternet, HOST, Internet, PUBLIC, ROUTER } from "../support/internet.js";
import type { LineChild } from "../support/line-child.js";
import { type Addresses, macOf, OFF, type Owner, TapBed } from "./tap-bed.js";

const reason = gateInternet();
const SETTINGS = "/proc/sys/net/ipv4/conf";

describe.skipIf(reason !== undefined)("TAP networks", () => {
  let internet: Internet;
  let tap: TapBed;

  beforeAll(async () => {
    internet = await Internet.create();
    tap = new TapBed(internet);
  });

  afterEach(() => tap.reset());

  afterAll(async () => {
    await tap?.[Symbol.asyncDispose]();
    await internet?.[Symbol.asyncDispose]();
  });

  /** A directory with an nft that refuses everything. */
  function fakeNft(): string {
    const directory = join(tap.work, "fake");
    mkdirSync(directory, { recursive: true });
    writeFileSync(join(directory, "nft"), "#!/bin/sh\necho 'Error: no such luck' >&2\nexit 1\n", { mode: 0o755 });
    return directory;
  }

  const devices = () =>
    (JSON.parse(internet.ip("-j", "link", "show")) as { ifname: string }[])
      .map(({ ifname }) => ifname)
      .filter((name) => name.startsWith("svm"));
  const read = (path: string) => internet.run("cat", path).trim();
  const inForce = (vmId: string) => tap.call<boolean>("isInForce", tap.owner(vmId));

  /** What a namespace consists of beside our own things: rules of others, routes, settings. */
  function everythingElse(): string {
    const rules = internet.run("sh", "-c", "nft list ruleset | sed '/smolvm/,/^}/d'");
    const settings = internet.run(
      "sh",
      "-c",
      `grep -r . ${SETTINGS}/*/ /proc/sys/net/ipv4/ip_forward 2>/dev/null | grep -v /svm`,
    );
    return [
      rules,
      settings,
      internet.ip("-4", "route", "show", "table", "all"),
      internet.ip("-4", "-o", "address", "show"),
    ].join("\n");
  }

  it("are made with their addresses and settings, and leave nothing when they are removed", async () => {
    tap.nft("table ip theirs { chain input { type filter hook input priority 0; policy accept; tcp dport 1 drop; }; }");
    const before = everythingElse();
    const { device, gateway, guest } = await tap.setUp("a");
    expect([device, gateway, guest]).toEqual(["svm0", "172.16.0.1", "172.16.0.2"]);
    const [link] = JSON.parse(internet.ip("-j", "-d", "address", "show", "dev", device));
    expect(link).toMatchObject({
      mtu: 1_500,
      address: "02:53:4d:00:00:01",
      addr_info: [{ family: "inet", local: gateway, prefixlen: 30 }],
      linkinfo: { info_kind: "tun", info_data: { type: "tap", user: "nobody" } },
    });
    expect(link.flags).toContain("UP");
    expect(read(`/proc/sys/net/ipv6/conf/${device}/disable_ipv6`)).toBe("1");
    const wanted = { forwarding: 1, rp_filter: 1, arp_ignore: 2, proxy_arp: 0, send_redirects: 0, route_localnet: 0 };
    const settings = Object.keys(wanted).map((name) => [name, Number(read(`${SETTINGS}/${device}/${name}`))]);
    expect(Object.fromEntries(settings)).toEqual(wanted);
    expect(await inForce("a")).toBe(true);
    await tap.call("tearDown", tap.owner("a"));
    expect(devices()).toEqual([]);
    await tap.call("settled");
    expect(tap.nft("list", "ruleset")).not.toContain("svm0");
    expect(await tap.call("ended")).toEqual([]);
    expect(await tap.call("removeTables")).toBe(true);
    expect(everythingElse()).toBe(before);
    expect(tap.nft("list", "ruleset")).not.toContain("smolvm");
  });

  it("that have only begun are closed and have no rules, and leave nothing either", async () => {
    const { device } = await tap.call<Addresses>("begin", tap.request("a"));
    const isUp = () =>
      (JSON.parse(internet.ip("-j", "link", "show", "dev", device))[0].flags as string[]).includes("UP");
    expect([isUp(), await inForce("a")]).toEqual([false, false]);
    await tap.call("enforceBegun");
    expect(isUp()).toBe(false);
    await tap.call("openBegun");
    expect([isUp(), await inForce("a")]).toEqual([true, true]);
    await tap.call("begin", tap.request("a", { policy: OFF }));
    expect(isUp()).toBe(false);
    await tap.call("tearDown", tap.owner("a"));
    await tap.call("settled");
    expect([devices(), await tap.call("held"), await tap.call("ended")]).toEqual([[], [], []]);
  });

  it("are removed as often as one likes, whatever has gone already", async () => {
    await tap.call("tearDown", tap.owner("a"));
    const { device, index } = await tap.setUp("a");
    internet.ip("link", "del", device);
    tap.nft("flush", "ruleset");
    for (let i = 0; i < 2; i++) await tap.call("tearDown", tap.owner("a"));
    await tap.call("settled");
    expect([await tap.call("held"), await tap.call("ended")]).toEqual([[], []]);
    // Its own VM gets an address back at once, others must wait.
    expect((await tap.setUp("b")).index).toBe(index + 1);
    expect((await tap.setUp("a")).index).toBe(index);
  });

  it("set up again replace what was there", async () => {
    const first = await tap.setUp("a");
    await tap.call("update", tap.owner("a"), OFF);
    const second = await tap.setUp("a", { macAddress: macOf("z") });
    expect(second).toEqual(first);
    await tap.call("settled");
    expect(await inForce("a")).toBe(true);
    const rules = tap.nft("list", "ruleset");
    expect([rules.includes(macOf("a")), rules.includes(macOf("z")), rules.includes('prefix "off"')]).toEqual([
      false,
      true,
      false,
    ]);
  });

  it("have a limit of their rate both ways, where one is asked for", async () => {
    const { device, index } = await tap.setUp("a", { rateLimitMbps: 8 });
    expect(internet.run("tc", "qdisc", "show", "dev", device)).toMatch(/tbf .* rate 8Mbit burst 128Kb/);
    expect(tap.nft("list", "chain", "inet", "smolvm", `rate${index}`)).toContain(
      "limit rate over 1000000 bytes/second",
    );
    await tap.call("update", tap.owner("a"), OFF);
    expect(tap.nft("list", "map", "inet", "smolvm", "rate_of")).toContain(`"${device}" : jump rate${index}`);
    expect(await inForce("a")).toBe(true);
    await tap.call("tearDown", tap.owner("a"));
    await tap.call("settled");
    expect(tap.nft("list", "ruleset")).not.toContain(`rate${index}`);
    await expect(tap.setUp("b", { rateLimitMbps: 1e12 })).rejects.toMatchObject({ code: "NETWORK_FAILED" });
    await tap.call("settled");
    expect([devices(), await tap.call("held")]).toEqual([[], []]);
  });

  it("100 at once are all made and all removed", async () => {
    const names = Array.from({ length: 100 }, (_, i) => `vm-${i}`);
    const made = await tap.call<Addresses[]>(
      "setUpMany",
      names.map((name) => tap.request(name)),
    );
    expect(new Set(made.map(({ guest }) => guest)).size).toBe(100);
    expect(devices()).toHaveLength(100);
    expect(await Promise.all(["vm-0", "vm-99"].map(inForce))).toEqual([true, true]);
    await tap.call(
      "tearDownMany",
      names.map((name) => tap.owner(name)),
    );
    await tap.call("settled");
    expect([devices(), await tap.call("held"), await tap.call("ended")]).toEqual([[], [], []]);
    expect(tap.nft("list", "ruleset")).not.toMatch(/svm\d/);
  });

  it("go round devices and networks of others, and touch neither", async () => {
    internet.run("ip", "tuntap", "add", "dev", "svm0", "mode", "tap");
    internet.ip("link", "add", "svm1", "type", "veth", "peer", "name", "other1");
    const hostNetworks = ["10.66.0.2/24", "172.16.0.9/30", "172.16.0.16/28"];
    expect((await tap.setUp("a", { hostNetworks })).index).toBe(3);
    expect((await tap.setUp("b", { hostNetworks })).index).toBe(8);
    expect((await tap.setUp("c", { hostNetworks, preferredIndex: 16_000 })).gateway).toBe("172.16.250.1");
    for (const name of ["a", "b", "c"]) await tap.call("tearDown", tap.owner(name));
    expect(devices()).toEqual(["svm0", "svm1"]);
    await expect(tap.setUp("d", { hostNetworks: ["172.16.5.1/12"] })).rejects.toMatchObject({ code: "NETWORK_FAILED" });
  });

  it("leave nothing when the kernel refuses a device", async () => {
    const failing = tap.setUp("a", { ownerUid: "nonsense" });
    await expect(failing).rejects.toMatchObject({ code: "NETWORK_FAILED", message: expect.stringContaining("svm0") });
    await tap.call("settled");
    expect([devices(), await tap.call("held"), await tap.call("ended")]).toEqual([[], [], []]);
    expect(tap.nft("list", "ruleset")).not.toMatch(/svm\d/);
  });

  describe("rules", () => {
    it.each([
      "flush ruleset",
      "flush table inet smolvm",
      "delete table arp smolvm",
      "delete table inet smolvm",
      "flush chain inet smolvm forward",
    ])("that are gone after nft %s are back with the next set-up, also those of other VMs", async (gone) => {
      await tap.setUp("a");
      await tap.call("update", tap.owner("a"), OFF);
      const before = tap.nft("list", "ruleset");
      tap.nft(gone);
      expect(tap.nft("list", "ruleset")).not.toBe(before);
      await tap.setUp("b");
      expect(await Promise.all(["a", "b"].map(inForce))).toEqual([true, true]);
      await tap.call("tearDown", tap.owner("b"));
      await tap.call("settled");
      expect(tap.nft("list", "ruleset")).toBe(before);
    });

    it.each([
      "flush chain inet smolvm early",
      "flush chain inet smolvm input",
      "flush chain inet smolvm input0",
      "flush set inet smolvm guests",
      "flush ruleset",
    ])("are known not to be in force after nft %s, until they are repaired", async (gone) => {
      await tap.setUp("a");
      const before = tap.nft("list", "ruleset");
      tap.nft(gone);
      expect(await inForce("a")).toBe(false);
      await tap.call("repair");
      expect(await inForce("a")).toBe(true);
      expect(tap.nft("list", "ruleset")).toBe(before);
    });

    it("of another version are replaced", async () => {
      await tap.setUp("a");
      const [, old = ""] = /comment "(smolvm [0-9a-f]+), rules: \d+"/.exec(tap.nft("list", "ruleset")) ?? [];
      const handle = /handle (\d+)/.exec(
        tap.nft("-a", "list", "chain", "inet", "smolvm", "forward").split(old)[1] ?? "",
      )?.[1];
      tap.nft(`replace rule inet smolvm forward handle ${handle} iifname "svm*" goto from_guest comment "smolvm 0"`);
      expect(await inForce("a")).toBe(false);
      await tap.setUp("b");
      expect(tap.nft("list", "ruleset")).toContain(old);
      expect(await inForce("a")).toBe(true);
    });

    it("that the kernel does not take leave everything as it was", async () => {
      const broken = await tap.driver({}, [], { ...process.env, PATH: `${fakeNft()}:${process.env["PATH"]}` });
      const refusal = { code: "NETWORK_FAILED", message: expect.stringContaining("no such luck") };
      await tap.setUp("a");
      const before = tap.nft("list", "ruleset");
      await expect(broken.ask({ call: "update", args: [tap.owner("a"), OFF] })).rejects.toMatchObject(refusal);
      await expect(broken.ask({ call: "setUp", args: [tap.request("b")] })).rejects.toMatchObject(refusal);
      await broken.ask({ call: "settled" });
      expect([tap.nft("list", "ruleset"), devices()]).toEqual([before, ["svm0"]]);
      await tap.call("repair");
      expect(tap.nft("list", "ruleset")).toBe(before);
      expect(await tap.call("held")).toHaveLength(1);
    });

    it("are not changed for what is no policy, and for who has no network", async () => {
      await tap.setUp("a");
      const before = tap.nft("list", "ruleset");
      const nonsense = { mode: "allow", names: [{ name: "x", port: 70_000 }], networks: [] };
      await expect(tap.call("update", tap.owner("a"), nonsense)).rejects.toMatchObject({ code: "INTERNAL" });
      await expect(tap.setUp("b", { policy: nonsense })).rejects.toMatchObject({ code: "INTERNAL" });
      await expect(tap.call("update", tap.owner("c"), OFF)).rejects.toMatchObject({ code: "NETWORK_FAILED" });
      expect(tap.nft("list", "ruleset")).toBe(before);
    });
  });

  describe("forwarding", () => {
    const forwarding = (device: string) => read(`${SETTINGS}/${device}/forwarding`);

    it("is switched on where guests need it, and off when the last one has gone", async () => {
      await tap.setUp("a");
      await tap.setUp("b", { policy: OFF });
      expect([forwarding("up0"), forwarding("br0"), forwarding("all")]).toEqual(["1", "0", "0"]);
      expect(await tap.call("uplinks")).toEqual(["up0"]);
      await tap.call("tearDown", tap.owner("a"));
      await tap.call("settled");
      expect(forwarding("up0")).toBe("1");
      // A private network behind another device.
      const policy = { mode: "allow", names: [], networks: [{ cidr: "172.30.0.0/24" }] };
      await tap.call("update", tap.owner("b"), policy);
      expect([forwarding("br0"), await tap.call("uplinks")]).toEqual(["1", ["br0", "up0"]]);
      await tap.call("tearDown", tap.owner("b"));
      await tap.call("settled");
      expect([forwarding("up0"), forwarding("br0"), await tap.call("uplinks")]).toEqual(["0", "0", []]);
    });

    it("is left alone on a host that is a router, or becomes one", async () => {
      await tap.setUp("a");
      expect(tap.nft("list", "set", "inet", "smolvm", "guarded")).toContain("up0");
      internet.run("sysctl", "-qw", "net.ipv4.ip_forward=1");
      await tap.setUp("b");
      expect(tap.nft("list", "set", "inet", "smolvm", "guarded")).not.toContain("up0");
      for (const name of ["a", "b"]) await tap.call("tearDown", tap.owner(name));
      await tap.call("settled");
      expect([forwarding("all"), forwarding("up0"), forwarding("br0")]).toEqual(["1", "1", "1"]);
    });

    it("that somebody has switched off is noticed and repaired", async () => {
      const guest = await tap.guest("a");
      internet.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.ip_forward=0");
      expect([forwarding("up0"), forwarding(guest.addresses.device), await inForce("a")]).toEqual(["0", "0", false]);
      await tap.call("repair");
      expect(await inForce("a")).toBe(true);
      const probe = { kind: "tcp" as const, address: PUBLIC[0], port: 20_000, text: "x" };
      expect(await guest.try(probe)).toMatchObject({ outcome: "ok" });
    });

    it("is not needed without a route: the host reaches the guest all the same", async () => {
      // Behind what is left there is nothing that a guest may reach.
      internet.ip("route", "flush", "default");
      internet.ip("address", "del", `${HOST.lan}/24`, "dev", "up0");
      const guest = await tap.guest("a");
      expect(await tap.call("uplinks")).toEqual([]);
      await guest.serve([{ kind: "tcp", address: "0.0.0.0", port: 80, name: "guest" }]);
      const probe = { kind: "tcp" as const, address: guest.addresses.guest, port: 80, text: "x" };
      expect(await internet.host.client([probe])).toMatchObject([{ reply: "guest:x" }]);
      expect(await guest.try({ ...probe, address: HOST.privateLan })).toMatchObject({ outcome: "refused" });
      internet.ip("address", "add", `${HOST.lan}/24`, "dev", "up0");
      internet.ip("route", "add", "default", "via", ROUTER);
    });
  });

  describe("several programs", () => {
    it("share the pool and the rules", async () => {
      const drivers = await Promise.all([1, 2, 3].map(() => tap.driver()));
      const made = await Promise.all(
        drivers.flatMap((driver, d) =>
          Array.from({ length: 8 }, (_, i) =>
            driver.ask<Addresses>({ call: "setUp", args: [tap.request(`${d}-${i}`)] }),
          ),
        ),
      );
      expect(new Set(made.map(({ index }) => index)).size).toBe(24);
      const owners = drivers.map((_, d) => tap.owner(`${d}-0`));
      expect(await Promise.all(owners.map((owner) => tap.call("isInForce", owner)))).toEqual([true, true, true]);
      await Promise.all(
        drivers.flatMap((driver, d) =>
          Array.from({ length: 8 }, (_, i) => driver.ask({ call: "tearDown", args: [tap.owner(`${d}-${i}`)] })),
        ),
      );
      await Promise.all(drivers.map((driver) => driver.ask({ call: "settled" })));
      await tap.call("settled");
      expect([devices(), await tap.call("held"), await tap.call("ended")]).toEqual([[], [], []]);
    });

    it("take over what a killed one has left, at any moment of its work", async () => {
      for (let delayMs = 0; delayMs < 24; delayMs += 3) {
        const victim: LineChild = await tap.driver();
        void victim.ask({ call: "setUp", args: [tap.request("v")] }).catch(() => {});
        await new Promise((done) => setTimeout(done, delayMs));
        await victim.end(true);
        await tap.setUp("v");
        expect(await inForce("v")).toBe(true);
        await tap.call("tearDown", tap.owner("v"));
      }
      await tap.call("settled");
      expect([devices(), await tap.call("held"), await tap.call("ended")]).toEqual([[], [], []]);
    });

    it("reclaim the networks of state directories that are gone, unless a VMM runs", async () => {
      const lost: Owner = { stateDir: `${tap.work}/lost`, vmId: "l" };
      const { device } = await tap.setUp("l", { owner: lost });
      await tap.setUp("a");
      expect(await tap.call("reclaim")).toHaveLength(1);
      expect(devices()).toEqual(["svm1"]);
      const guest = await tap.guest("g", { owner: { ...lost, vmId: "g" } });
      expect(await tap.call("reclaim")).toEqual([]);
      internet.ip("link", "set", "dev", guest.addresses.device, "down");
      expect(await tap.call("reclaim")).toEqual([]);
      expect(devices()).toContain(guest.addresses.device);
      expect(device).toBe("svm0");
      rmSync(tap.stateDir, { recursive: true });
      expect(await tap.call<unknown[]>("reclaim")).toHaveLength(1);
    });
  });
});
