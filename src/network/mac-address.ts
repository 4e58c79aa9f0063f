// The guest's MAC address: the same VM always has the same one, so ARP caches and DHCP leases stay right.

import { createHash } from "node:crypto";

/**
 * A locally administered unicast address (IEEE 802, bits 1 and 0 of the first byte) made from a VM's id.
 *
 * @returns Six lower-case hexadecimal bytes joined by colons.
 */
export function macAddressOf(vmId: string): string {
  const bytes = createHash("sha256").update(`smolvm mac ${vmId}`).digest().subarray(0, 6);
  bytes.writeUInt8((bytes.readUInt8(0) & 0xfc) | 0x02, 0);
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join(":");
}
