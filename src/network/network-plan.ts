// From what a VM asked for to what its guest gets and its host side runs. Pure: nothing is read or started here.

import { isIP } from "node:net";
import { type EgressPolicy, type EgressRules, egressRules } from "./egress-policy.js";
import { chooseGuestSubnet } from "./guest-subnet.js";
import type { HostNetwork } from "./host-network.js";
import { macAddressOf } from "./mac-address.js";

/** Whose network it is. */
export interface NetworkOwner {
  readonly vmId: string;
  /** A whole number from 0 that no other VM of the state directory has; the guest's address is made from it. */
  readonly guestNumber: number;
}

/** What a VM asked for. */
export interface NetworkRequest {
  /** Default `"open"`. */
  readonly egress?: EgressPolicy;
  /** Of each direction, in megabits per second. Default none. */
  readonly rateLimitMbps?: number | undefined;
}

/** What is configured inside the guest. */
export interface GuestNetwork {
  readonly macAddress: string;
  /** With prefix, e.g. `["10.187.0.16/18"]`. */
  readonly addresses: readonly string[];
  readonly gateways: readonly string[];
  /** Empty when the host has no resolver. */
  readonly dnsServers: readonly string[];
  readonly dnsSearch: readonly string[];
  /** In bytes. */
  readonly mtu: number;
}

/** What netguard and tapguard are told of a policy; see docs/network.md. */
export interface EnforcedPolicy extends EgressRules {
  /** The host's resolvers that answer for the guest's DNS server, as `address:port`. */
  readonly resolvers: readonly string[];
}

/** The user network of one VM, both sides. */
export interface UserNetworkPlan {
  readonly guest: GuestNetwork;
  readonly policy: EnforcedPolicy;
  readonly rateLimitMbps: number | undefined;
  /** For the user to read; nothing here stops a start. */
  readonly warnings: readonly string[];
}

/** passt's own default: TCP ends on the host, so a large MTU only saves the guest's time (passt(1), `--mtu`). */
const MTU_BYTES = 65_520;
/** Ethernet's, for slow networks. */
const SLOW_MTU_BYTES = 1_500;
/** Below it a large frame takes more than 33 ms, and everybody else waits for its end. Smaller ones cost 4 % in headers. */
const SLOW_BELOW_MBPS = 16;

/** The MTU of a guest's interface in mode "user", in bytes. */
export function userMtu(rateLimitMbps: number | undefined): number {
  return rateLimitMbps !== undefined && rateLimitMbps < SLOW_BELOW_MBPS ? SLOW_MTU_BYTES : MTU_BYTES;
}

/**
 * Plans the user network of one VM. The same VM on the same host always gets the same plan.
 *
 * @throws {NETWORK_FAILED} when the host leaves no network for the guest.
 * @throws {INVALID_CONFIG} naming an entry of the policy that is wrong.
 */
export function planUserNetwork(vm: NetworkOwner, request: NetworkRequest, host: HostNetwork): UserNetworkPlan {
  const subnet = chooseGuestSubnet(vm.guestNumber, host.networks);
  const policy = enforcedPolicy(request.egress ?? "open", host);
  const hasDns = policy.resolvers.length > 0;
  return {
    guest: {
      macAddress: macAddressOf(vm.vmId),
      addresses: [subnet.address],
      gateways: [subnet.gateway],
      dnsServers: hasDns ? [subnet.dns] : [],
      dnsSearch: hasDns ? host.resolvConf.search : [],
      mtu: userMtu(request.rateLimitMbps),
    },
    policy,
    rateLimitMbps: request.rateLimitMbps,
    warnings: warningsOf(policy),
  };
}

/** @throws {INVALID_CONFIG} naming an entry of the policy that is wrong. */
export function enforcedPolicy(egress: EgressPolicy, host: HostNetwork): EnforcedPolicy {
  return { ...egressRules(egress), resolvers: host.resolvConf.nameservers.map(withDnsPort) };
}

/** What a guest will miss, for the user to read. */
export function warningsOf({ mode, resolvers }: EnforcedPolicy): readonly string[] {
  if (resolvers.length > 0 || mode === "off") return [];
  return ["The host has no DNS resolver, so the guest cannot look up names"];
}

function withDnsPort(address: string): string {
  return isIP(address) === 6 ? `[${address}]:53` : `${address}:53`;
}
