import { expect, test } from "vitest";
import type { UserNetworkPlan } from "./network-plan.js";
import { guardArgv, passtArgv } from "./passt-argv.js";

const plan: UserNetworkPlan = {
  guest: {
    macAddress: "02:11:22:33:44:55",
    addresses: ["10.187.0.16/18"],
    gateways: ["10.187.0.2"],
    dnsServers: ["10.187.0.3"],
    dnsSearch: [],
    mtu: 65_520,
  },
  policy: { mode: "open", names: [], networks: [], resolvers: ["127.0.0.53:53", "[::1]:53"] },
  rateLimitMbps: 20,
  warnings: [],
};

test("passt's argv", () => {
  expect(passtArgv(plan).join(" ")).toBe(
    "passt --foreground --quiet --stderr --one-off -4 --no-map-gw --no-dhcp --no-dhcpv6 --no-ndp --no-ra " +
      "--no-dhcp-dns --no-dhcp-search --address 10.187.0.16 --netmask 18 --gateway 10.187.0.2 " +
      "--mac-addr 52:55:0a:00:02:02 --mtu 65520 -u none -t none",
  );
});

test("netguard's argv", () => {
  const options = {
    guardPath: "/lib/netguard",
    socketName: "vmm.sock",
    controlName: "ctl.sock",
    acceptTimeoutMs: 60_000,
  };
  expect(guardArgv(plan, { ...options, runAs: { uid: 65_534, gid: 65_534 } }).join(" ")).toBe(
    "/lib/netguard -socket vmm.sock -control ctl.sock -policy-fd 3 -denials-fd 4 -ready-fd 5 -accept-timeout 60000ms " +
      "-runas 65534:65534 -mac 02:11:22:33:44:55 -address 10.187.0.16/18 -gateway 10.187.0.2 -dns 10.187.0.3 " +
      `-rate-limit-mbps 20 -mtu 65520 -- ${passtArgv(plan).join(" ")}`,
  );
  const bare = guardArgv({ ...plan, guest: { ...plan.guest, dnsServers: [] }, rateLimitMbps: undefined }, options);
  expect(bare).not.toContain("-dns");
  expect(bare).not.toContain("-runas");
  expect(bare).not.toContain("-rate-limit-mbps");
});
