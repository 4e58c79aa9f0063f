import { describe, expect, it } from "vitest";
import { planNetwork } from "./network-plan.js";

const host = {
  networks: ["192.0.2.2/24"],
  resolvConf: { nameservers: ["127.0.0.53", "fe80::1%eth0"], search: ["example.test"] },
};

describe("planNetwork", () => {
  it("plans nothing where nothing is asked for", () => {
    expect(planNetwork("vm-1", { mode: "none" }, host)).toEqual({ mode: "none" });
  });

  it("gives the guest one DNS server of its own for the host's resolvers", () => {
    const plan = planNetwork("vm-1", { mode: "user", ports: [] }, host);
    expect(plan).toMatchObject({
      guest: {
        addresses: ["10.0.2.15/24"],
        gateways: ["10.0.2.2"],
        dnsServers: ["10.0.2.3"],
        dnsSearch: ["example.test"],
        mtu: 65_520,
      },
      resolvers: ["127.0.0.53:53", "[fe80::1%eth0]:53"],
      allowedNetworks: [],
      warnings: [],
    });
    expect(plan).toMatchObject({ deniedNetworks: expect.arrayContaining(["10.0.0.0/8", "192.168.0.0/16"]) });
    expect(planNetwork("vm-1", { mode: "user", ports: [] }, host)).toEqual(plan);
  });

  it("warns, and goes on, where the host has no resolver", () => {
    const plan = planNetwork(
      "vm-1",
      { mode: "user", ports: [] },
      { networks: [], resolvConf: { nameservers: [], search: ["x"] } },
    );
    expect(plan).toMatchObject({ guest: { dnsServers: [], dnsSearch: [] }, resolvers: [] });
    expect(plan).toHaveProperty("warnings.length", 1);
  });

  it("closes everything, DNS too, without egress", () => {
    const plan = planNetwork("vm-1", { mode: "user", ports: [], egress: false }, host);
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
    expect(() => planNetwork("vm-1", request, host)).toThrow(expect.objectContaining({ code }));
  });
});
