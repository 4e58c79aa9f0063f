// From what a VM asked for to what its guest gets and its host side runs. Pure: nothing is read or started here.

import { isIP, isIPv4 } from "node:net";
import { invalidConfig } from "../errors/invalid-config.js";
import { SmolVMError } from "../errors/smolvm-error.js";
import { chooseGuestSubnet } from "./guest-subnet.js";
import type { HostNetwork } from "./host-network.js";
import { parseCidr } from "./ipv4.js";
import { macAddressOf } from "./mac-address.js";

/** A TCP port of the host that leads to one of the guest. */
export interface PortForward {
  readonly guestPort: number;
  readonly hostPort: number;
  /** Address of the host to listen on; `"127.0.0.1"` unless the user said otherwise. */
  readonly hostAddress: string;
}

/** Whose network it is. */
export interface NetworkOwner {
  readonly vmId: string;
  /** A whole number from 0 that no other VM of the state directory has; the guest's address is made from it. */
  readonly guestNumber: number;
}

/** What a VM asked for. */
export type NetworkRequest =
  | { readonly mode: "none" }
  | {
      readonly mode: "user";
      readonly ports: readonly PortForward[];
      /** CIDRs that are reached although they are private. Default none; not offered to users yet. */
      readonly allowedNetworks?: readonly string[];
      /** False closes everything but the forwarded ports. Default true; not offered to users yet. */
      readonly egress?: boolean;
    };

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

/** The user network of one VM, both sides. */
export interface UserNetworkPlan {
  readonly mode: "user";
  readonly guest: GuestNetwork;
  readonly ports: readonly PortForward[];
  /** The host's resolvers that answer for the guest's DNS server, as `address:port`. */
  readonly resolvers: readonly string[];
  /** CIDRs that the guest cannot reach, beside the host itself, loopback, link-local and multicast. */
  readonly deniedNetworks: readonly string[];
  readonly allowedNetworks: readonly string[];
  /** For the user to read; nothing here stops a start. */
  readonly warnings: readonly string[];
}

/** A network plan; `none` means that the VM has no network device. */
export type NetworkPlan = { readonly mode: "none" } | UserNetworkPlan;

/** passt's own default: TCP ends on the host, so a large MTU only saves the guest's time (passt(1), `--mtu`). */
export const MTU_BYTES = 65_520;

/** RFC 1918, shared address space (RFC 6598), IETF assignments (RFC 6890), benchmarking (RFC 2544). */
const PRIVATE_NETWORKS = [
  "10.0.0.0/8",
  "172.16.0.0/12",
  "192.168.0.0/16",
  "100.64.0.0/10",
  "192.0.0.0/24",
  "198.18.0.0/15",
] as const;

/**
 * Plans the network of one VM. The same VM on the same host always gets the same plan.
 *
 * @throws {NETWORK_FAILED} when the host leaves no network for the guest.
 * @throws {UNSUPPORTED} for a forward from an IPv6 address of the host: IPv6 is off.
 * @throws {INVALID_CONFIG} for an allowed network that is not an IPv4 CIDR.
 */
export function planNetwork(vm: NetworkOwner, request: NetworkRequest, host: HostNetwork): NetworkPlan {
  if (request.mode === "none") return { mode: "none" };
  for (const { hostAddress } of request.ports) {
    if (isIPv4(hostAddress)) continue;
    throw new SmolVMError("UNSUPPORTED", `Cannot forward from host address "${hostAddress}": only IPv4 is supported`, {
      details: { hostAddress },
    });
  }
  const notCidr = request.allowedNetworks?.find((network) => parseCidr(network) === undefined);
  if (notCidr !== undefined) {
    throw invalidConfig({
      field: "network.egress.allow",
      value: notCidr,
      expected: "IPv4 networks such as 10.1.0.0/16",
    });
  }
  const subnet = chooseGuestSubnet(vm.guestNumber, host.networks);
  const hasEgress = request.egress ?? true;
  const resolvers = hasEgress ? host.resolvConf.nameservers.map(withDnsPort) : [];
  return {
    mode: "user",
    guest: {
      macAddress: macAddressOf(vm.vmId),
      addresses: [subnet.address],
      gateways: [subnet.gateway],
      dnsServers: resolvers.length === 0 ? [] : [subnet.dns],
      dnsSearch: resolvers.length === 0 ? [] : host.resolvConf.search,
      mtu: MTU_BYTES,
    },
    ports: request.ports,
    resolvers,
    deniedNetworks: hasEgress ? PRIVATE_NETWORKS : ["0.0.0.0/0"],
    allowedNetworks: request.allowedNetworks ?? [],
    warnings:
      hasEgress && resolvers.length === 0 ? ["The host has no DNS resolver, so the guest cannot look up names"] : [],
  };
}

function withDnsPort(address: string): string {
  return isIP(address) === 6 ? `[${address}]:53` : `${address}:53`;
}
