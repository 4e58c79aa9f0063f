import { expect, test } from "vitest";
import type { UserNetworkPlan } from "./network-plan.js";
import { guardArgv, passtArgv } from "./passt-argv.js";

const plan: UserNetworkPlan = {
  mode: "user",
  guest: {
    macAddress: "02:11:22:33:44:55",
    addresses: ["10.187.0.16/18"],
    gateways: ["10.187.0.2"],
    dnsServers: ["10.187.0.3"],
    dnsSearch: [],
    mtu: 65_520,
  },
  ports: [
    { guestPort: 80, hostPort: 8080, hostAddress: "127.0.0.1" },
    { guestPort: 80, hostPort: 8081, hostAddress: "0.0.0.0" },
  ],
  resolvers: ["127.0.0.53:53", "[::1]:53"],
  deniedNetworks: ["10.0.0.0/8"],
  allowedNetworks: ["10.9.0.0/16"],
  warnings: [],
};

test("passt's argv", () => {
  expect(passtArgv(plan).join(" ")).toBe(
    "passt --foreground --quiet --stderr --one-off -4 --no-map-gw --no-dhcp --no-dhcpv6 --no-ndp --no-ra " +
      "--no-dhcp-dns --no-dhcp-search --address 10.187.0.16 --netmask 18 --gateway 10.187.0.2 " +
      "--mac-addr 52:55:0a:00:02:02 --mtu 65520 -u none -t 127.0.0.1/8080:80 -t 0.0.0.0/8081:80",
  );
  expect(passtArgv({ ...plan, ports: [] }).slice(-2)).toEqual(["-t", "none"]);
});

test("netguard's argv", () => {
  const options = { guardPath: "/lib/netguard", socketName: "vmm.sock", acceptTimeoutMs: 60_000 };
  expect(guardArgv(plan, { ...options, runAs: { uid: 65_534, gid: 65_534 } }).join(" ")).toBe(
    "/lib/netguard -listen-fd 3 -socket vmm.sock -ready-fd 4 -accept-timeout 60000ms -runas 65534:65534 " +
      "-mac 02:11:22:33:44:55 -address 10.187.0.16/18 -gateway 10.187.0.2 -dns 10.187.0.3 -resolver 127.0.0.53:53 -resolver [::1]:53 " +
      `-forward 80 -deny 10.0.0.0/8 -allow 10.9.0.0/16 -- ${passtArgv(plan).join(" ")}`,
  );
  const bare = guardArgv({ ...plan, guest: { ...plan.guest, dnsServers: [] }, resolvers: [] }, options);
  expect(bare).not.toContain("-dns");
  expect(bare).not.toContain("-runas");
});
