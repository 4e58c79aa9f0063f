import { describe, expect, it } from "vitest";
import { planUserNetwork } from "./network-plan.js";

const vm = { vmId: "vm-1", guestNumber: 0 };
const host = {
  networks: ["192.0.2.2/24"],
  resolvConf: { nameservers: ["127.0.0.53", "fe80::1%eth0"], search: ["example.test"] },
};

describe("planUserNetwork", () => {
  it("gives the guest one DNS server of its own for the host's resolvers", () => {
    const plan = planUserNetwork(vm, {}, host);
    expect(plan).toMatchObject({
      guest: {
        addresses: ["10.187.0.16/18"],
        gateways: ["10.187.0.2"],
        dnsServers: ["10.187.0.3"],
        dnsSearch: ["example.test"],
        mtu: 65_520,
      },
      policy: { mode: "open", names: [], networks: [], resolvers: ["127.0.0.53:53", "[fe80::1%eth0]:53"] },
      warnings: [],
    });
    expect(planUserNetwork(vm, {}, host)).toEqual(plan);
  });

  it("gives two VMs different addresses of the same network", () => {
    const guests = [planUserNetwork(vm, {}, host), planUserNetwork({ vmId: "vm-2", guestNumber: 1 }, {}, host)].map(
      ({ guest }) => guest,
    );
    expect(guests.map(({ addresses }) => addresses)).toEqual([["10.187.0.16/18"], ["10.187.0.17/18"]]);
    expect(new Set(guests.map(({ macAddress }) => macAddress)).size).toBe(2);
    expect(new Set(guests.map(({ gateways }) => String(gateways))).size).toBe(1);
  });

  it("warns, and goes on, where the host has no resolver", () => {
    const bare = { networks: [], resolvConf: { nameservers: [], search: ["x"] } };
    const plan = planUserNetwork(vm, {}, bare);
    expect(plan).toMatchObject({ guest: { dnsServers: [], dnsSearch: [] }, policy: { resolvers: [] } });
    expect(plan).toHaveProperty("warnings.length", 1);
    expect(planUserNetwork(vm, { egress: "off" }, bare).warnings).toEqual([]);
  });

  it("hands on what may be reached, and how fast", () => {
    const plan = planUserNetwork(vm, { egress: { allow: ["a.example:443", "10.0.0.0/8"] }, rateLimitMbps: 7 }, host);
    expect(plan).toMatchObject({
      policy: { mode: "allow", names: [{ name: "a.example", port: 443 }], networks: [{ cidr: "10.0.0.0/8" }] },
      rateLimitMbps: 7,
    });
    // A policy may change while the guest runs; where it asks does not.
    expect(planUserNetwork(vm, { egress: "off", rateLimitMbps: 7 }, host).guest).toEqual(plan.guest);
  });

  it("gives a slow network small frames", () => {
    const mtus = [1, 15, 16, 500].map((rateLimitMbps) => planUserNetwork(vm, { rateLimitMbps }, host).guest.mtu);
    expect(mtus).toEqual([1_500, 1_500, 65_520, 65_520]);
  });
});
