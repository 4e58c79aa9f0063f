import { describe, expect, it } from "vitest";
import { planNetwork } from "./network-plan.js";

const vm = { vmId: "vm-1", guestNumber: 0 };
const host = {
  networks: ["192.0.2.2/24"],
  resolvConf: { nameservers: ["127.0.0.53", "fe80::1%eth0"], search: ["example.test"] },
};

describe("planNetwork", () => {
  it("plans nothing where nothing is asked for", () => {
    expect(planNetwork(vm, { mode: "none" }, host)).toEqual({ mode: "none" });
  });

  it("gives the guest one DNS server of its own for the host's resolvers", () => {
    const plan = planNetwork(vm, { mode: "user", ports: [] }, host);
    expect(plan).toMatchObject({
      guest: {
        addresses: ["10.187.0.16/18"],
        gateways: ["10.187.0.2"],
        dnsServers: ["10.187.0.3"],
        dnsSearch: ["example.test"],
        mtu: 65_520,
      },
      resolvers: ["127.0.0.53:53", "[fe80::1%eth0]:53"],
      allowedNetworks: [],
      warnings: [],
    });
    expect(plan).toMatchObject({ deniedNetworks: expect.arrayContaining(["10.0.0.0/8", "192.168.0.0/16"]) });
    expect(planNetwork(vm, { mode: "user", ports: [] }, host)).toEqual(plan);
  });

  it("gives two VMs different addresses of the same network", () => {
    const plans = [
      planNetwork(vm, { mode: "user", ports: [] }, host),
      planNetwork({ vmId: "vm-2", guestNumber: 1 }, { mode: "user", ports: [] }, host),
    ].flatMap((plan) => (plan.mode === "user" ? plan.guest : []));
    expect(plans.map((guest) => guest.addresses)).toEqual([["10.187.0.16/18"], ["10.187.0.17/18"]]);
    expect(new Set(plans.map((guest) => guest.macAddress)).size).toBe(2);
    expect(new Set(plans.map((guest) => String(guest.gateways))).size).toBe(1);
  });

  it("warns, and goes on, where the host has no resolver", () => {
    const plan = planNetwork(
      vm,
      { mode: "user", ports: [] },
      { networks: [], resolvConf: { nameservers: [], search: ["x"] } },
    );
    expect(plan).toMatchObject({ guest: { dnsServers: [], dnsSearch: [] }, resolvers: [] });
    expect(plan).toHaveProperty("warnings.length", 1);
  });

  it("closes everything, DNS too, without egress", () => {
    const plan = planNetwork(vm, { mode: "user", ports: [], egress: false }, host);
    expect(plan).toMatchObject({
      guest: { dnsServers: [] },
      resolvers: [],
      deniedNetworks: ["0.0.0.0/0"],
      warnings: [],
    });
  });

  it.each([
    ["UNSUPPORTED", { mode: "user", ports: [{ guestPort: 80, hostPort: 8080, hostAddress: "::1" }] }],
    ["UNSUPPORTED", { mode: "user", ports: [{ guestPort: 80, hostPort: 8080, hostAddress: "127.0.0.1/1,all" }] }],
    ["INVALID_CONFIG", { mode: "user", ports: [], allowedNetworks: ["example.com"] }],
  ] as const)("refuses with %s", (code, request) => {
    expect(() => planNetwork(vm, request, host)).toThrow(expect.objectContaining({ code }));
  });
});
