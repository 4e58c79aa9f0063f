// Which IPv4 network the guests live in, and which address in it is whose. All VMs of a host share the network's
// numbers but no link, so each has the same gateway; the guests' own addresses differ, so that a VM can be told by it.

import { SmolVMError } from "../errors/smolvm-error.js";
import { formatIpv4, type Ipv4Range, parseCidr } from "./ipv4.js";

/** The addresses of one guest network. */
export interface GuestSubnet {
  /** Guest's address with prefix, e.g. `"10.187.0.16/18"`. */
  readonly address: string;
  readonly gateway: string;
  /** Where DNS is answered; nobody else has this address. */
  readonly dns: string;
}

/** Bits of the network's part of an address: 16 384 addresses, so that no host has more VMs than there are. */
const PREFIX_BITS = 18;

/**
 * Networks that people rarely use, in order of preference: one each of the private ranges (RFC 1918), of shared address
 * space (RFC 6598), and of 198.18.0.0/15 (RFC 2544), the last resort of hosts that use all the others.
 */
const CANDIDATES = ["10.187.0.0", "10.213.64.0", "172.29.192.0", "192.168.192.0", "100.99.64.0", "198.18.64.0"].map(
  (address) => `${address}/${PREFIX_BITS}`,
);

/** What each address of the network is for, counted from its first one, which is the network itself. */
const GATEWAY_OFFSET = 2;
const DNS_OFFSET = 3;
/** Those between are kept free, for what the host may once answer beside DNS. */
const FIRST_GUEST_OFFSET = 16;
/** Guests that have different addresses. All but the last address, which is the broadcast address. */
export const GUEST_ADDRESSES = 2 ** (32 - PREFIX_BITS) - FIRST_GUEST_OFFSET - 1;

/**
 * Chooses the first candidate that overlaps none of the host's own networks, so that a guest can still reach those
 * where it is allowed to.
 *
 * @param guestNumber A whole number from 0. Different numbers below {@link GUEST_ADDRESSES} have different addresses;
 * beyond it they begin anew, which harms nobody: two VMs share no link.
 * @param hostNetworks The host's networks as CIDR; IPv6 ones are ignored.
 * @throws {NETWORK_FAILED} when the host uses all of them.
 */
export function chooseGuestSubnet(guestNumber: number, hostNetworks: readonly string[]): GuestSubnet {
  const taken = hostNetworks.flatMap((text) => parseCidr(text) ?? []);
  const isFree = (subnet: Ipv4Range) =>
    !taken.some((network) => network.first <= subnet.last && subnet.first <= network.last);
  const subnet = CANDIDATES.flatMap((candidate) => parseCidr(candidate) ?? []).find(isFree);
  if (subnet === undefined) {
    throw new SmolVMError("NETWORK_FAILED", "Cannot choose a network for the guest: the host uses every candidate", {
      details: { candidates: CANDIDATES, hostNetworks },
      hint: 'Use network: "none".',
    });
  }
  const guest = subnet.first + FIRST_GUEST_OFFSET + (guestNumber % GUEST_ADDRESSES);
  return {
    address: `${formatIpv4(guest)}/${PREFIX_BITS}`,
    gateway: formatIpv4(subnet.first + GATEWAY_OFFSET),
    dns: formatIpv4(subnet.first + DNS_OFFSET),
  };
}
