// Which addresses a lease of the pool stands for: index and network are two names for the same thing.

import { isIPv4 } from "node:net";
import { formatIpv4, type Ipv4Range, parseCidr } from "../ipv4.js";

/** Where the guests of TAP networks live; each has a /30 of its own. */
export const TAP_POOL = "172.16.0.0/16";
/** Networks in the pool; indexes are 0 to one less. */
export const TAP_LEASES = 16_384;
/** Every device of the pool, and none of others, has a name that begins so: the rules go by it. */
export const DEVICE_PREFIX = "svm";
/** In bytes. */
export const TAP_MTU_BYTES = 1_500;
/** The host's end of every TAP, locally administered: a copy of a VM finds its gateway where the original had it. */
export const GATEWAY_MAC = "02:53:4d:00:00:01";
/** NFLOG groups of the VMs begin here; lower ones are left to others. */
const FIRST_LOG_GROUP = 16_384;

const NETWORK_PREFIX = 30;
const ADDRESSES_PER_NETWORK = 2 ** (32 - NETWORK_PREFIX);

/** The network of one VM. */
export interface TapAddresses {
  readonly index: number;
  /** Name of the TAP device. */
  readonly device: string;
  /** The host's address on the device; DNS is answered there. */
  readonly gateway: string;
  readonly guest: string;
  /** Of both addresses. */
  readonly prefix: number;
  /** Where refused packets are reported (nfnetlink_log). */
  readonly logGroup: number;
}

/** @param index A whole number from 0 to {@link TAP_LEASES} - 1. */
export function addressesOf(index: number): TapAddresses {
  const first = rangeOf(index).first;
  return {
    index,
    device: `${DEVICE_PREFIX}${index}`,
    gateway: formatIpv4(first + 1),
    guest: formatIpv4(first + 2),
    prefix: NETWORK_PREFIX,
    logGroup: FIRST_LOG_GROUP + index,
  };
}

/** The inverse, for every address of a network; `undefined` outside the pool, and for what is no IPv4 address. */
export function indexOf(address: string): number | undefined {
  if (!isIPv4(address)) return undefined;
  const { first } = parseCidr(`${address}/32`) as Ipv4Range;
  const offset = first - poolRange().first;
  const index = Math.floor(offset / ADDRESSES_PER_NETWORK);
  return index >= 0 && index < TAP_LEASES ? index : undefined;
}

/** All addresses of a lease's network. */
export function rangeOf(index: number): Ipv4Range {
  const first = poolRange().first + index * ADDRESSES_PER_NETWORK;
  return { first, last: first + ADDRESSES_PER_NETWORK - 1 };
}

/** All addresses of the pool. */
export function poolRange(): Ipv4Range {
  return parseCidr(TAP_POOL) as Ipv4Range;
}
