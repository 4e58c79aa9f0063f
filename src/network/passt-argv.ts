// The command lines of the user network's two programs. Pure: tested as data.

import type { UserNetworkPlan } from "./network-plan.js";

/**
 * What the gateway calls itself on the guest's link. passt would show the MAC address of the host's own interface
 * otherwise, which is nothing a guest should know.
 */
const GATEWAY_MAC = "52:55:0a:00:02:02";

/**
 * passt's argv, without the descriptor that netguard adds.
 *
 * IPv6 is off (`-4`): passt of 2023 leads ::1, :: and ::ffff:127.0.0.1 to the host's loopback, and the guard drops
 * IPv6 whole. DHCP, NDP and DNS are off too: the agent configures the guest, and `--dns-forward` of 2023 asks
 * 0.0.0.0:53 instead of the resolver (seen with strace), so netguard answers DNS. Ports come in by the guest channel.
 */
export function passtArgv({ guest }: Pick<UserNetworkPlan, "guest">): string[] {
  const [address = "", prefix = ""] = (guest.addresses[0] ?? "").split("/");
  return [
    "passt",
    "--foreground",
    "--quiet",
    "--stderr",
    "--one-off",
    "-4",
    "--no-map-gw",
    ...["--no-dhcp", "--no-dhcpv6", "--no-ndp", "--no-ra"],
    ...["--no-dhcp-dns", "--no-dhcp-search"],
    ...["--address", address, "--netmask", prefix],
    ...["--gateway", guest.gateways[0] ?? ""],
    ...["--mac-addr", GATEWAY_MAC],
    ...["--mtu", String(guest.mtu)],
    ...["-u", "none"],
    ...["-t", "none"],
  ];
}

/** Descriptors that netguard inherits: its policy, refusals to write down, and where it says that everything works. */
export const POLICY_FD = 3;
export const REFUSALS_FD = 4;
export const READY_FD = 5;

/** What netguard is told beside the plan. */
export interface GuardArgvOptions {
  readonly guardPath: string;
  /** Relative to the working directory: it may be unreachable by its absolute path once root is given up. */
  readonly socketName: string;
  readonly controlName: string;
  /** Whom to become before anything else; only root can. */
  readonly runAs?: { readonly uid: number; readonly gid: number } | undefined;
  /** How long to wait for the VMM, in milliseconds. */
  readonly acceptTimeoutMs: number;
}

/** netguard's argv; it starts passt itself. */
export function guardArgv(plan: UserNetworkPlan, options: GuardArgvOptions): string[] {
  const { runAs } = options;
  const dns = plan.guest.dnsServers[0];
  return [
    options.guardPath,
    ...["-socket", options.socketName, "-control", options.controlName],
    ...["-policy-fd", String(POLICY_FD), "-denials-fd", String(REFUSALS_FD), "-ready-fd", String(READY_FD)],
    ...["-accept-timeout", `${options.acceptTimeoutMs}ms`],
    ...(runAs === undefined ? [] : ["-runas", `${runAs.uid}:${runAs.gid}`]),
    ...["-mac", plan.guest.macAddress],
    ...["-address", plan.guest.addresses[0] ?? ""],
    ...["-gateway", plan.guest.gateways[0] ?? ""],
    ...(dns === undefined ? [] : ["-dns", dns]),
    ...(plan.rateLimitMbps === undefined ? [] : ["-rate-limit-mbps", String(plan.rateLimitMbps)]),
    ...["-mtu", String(plan.guest.mtu)],
    "--",
    ...passtArgv(plan),
  ];
}
