// Which IPv4 network the guest lives in. Every VM may have the same one: no two VMs share a link.

import { SmolVMError } from "../errors/smolvm-error.js";
import { parseCidr } from "./ipv4.js";

/** The addresses of one guest network. */
export interface GuestSubnet {
  /** Guest's address with prefix, e.g. `"10.0.2.15/24"`. */
  readonly address: string;
  readonly gateway: string;
  /** Where DNS is answered; nobody else has this address. */
  readonly dns: string;
}

/**
 * Third-of-a-kind networks that people rarely use, in order of preference. The first is what QEMU's own user network
 * has, so it is what images expect most. 198.18.0.0/15 (RFC 2544) is the last resort of hosts that use all of RFC 1918.
 */
const CANDIDATES = ["10.0.2", "10.187.43", "172.29.217", "192.168.214", "100.99.87", "198.18.73"] as const;

/**
 * Chooses the first candidate that overlaps none of the host's own networks, so that a guest can still reach those
 * where it is allowed to.
 *
 * @param hostNetworks The host's networks as CIDR; IPv6 ones are ignored.
 * @throws {NETWORK_FAILED} when the host uses all of them.
 */
export function chooseGuestSubnet(hostNetworks: readonly string[]): GuestSubnet {
  const taken = hostNetworks.flatMap((text) => parseCidr(text) ?? []);
  const prefix = CANDIDATES.find((candidate) => {
    const subnet = parseCidr(`${candidate}.0/24`);
    return (
      subnet !== undefined && !taken.some((network) => network.first <= subnet.last && subnet.first <= network.last)
    );
  });
  if (prefix === undefined) {
    throw new SmolVMError("NETWORK_FAILED", "Cannot choose a network for the guest: the host uses every candidate", {
      details: { candidates: CANDIDATES.map((candidate) => `${candidate}.0/24`), hostNetworks },
      hint: 'Use network: "none".',
    });
  }
  return { address: `${prefix}.15/24`, gateway: `${prefix}.2`, dns: `${prefix}.3` };
}
