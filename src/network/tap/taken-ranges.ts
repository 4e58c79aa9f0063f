// Which parts of the pool belong to somebody already, so that no guest gets an address there.

import { SmolVMError } from "../../errors/smolvm-error.js";
import { type Ipv4Range, parseCidr } from "../ipv4.js";
import { DEVICE_PREFIX, poolRange, TAP_POOL } from "./addresses.js";
import { type Ipv4Ranges, mergeRanges, subtractRanges } from "./ipv4-ranges.js";
import type { Route } from "./uplinks.js";

/**
 * What the host is in, and what it has a route of its own for. A route for all of the pool and more, as VPNs have it, does
 * not count: each guest takes four addresses out of it, and the rest goes where it went.
 *
 * @param hostNetworks The host's own networks as CIDR.
 * @throws {NETWORK_FAILED} when nothing of the pool is left.
 */
export function takenRanges(hostNetworks: readonly string[], routes: readonly Route[]): Ipv4Ranges {
  const pool = poolRange();
  const routed = routes
    .filter(({ device }) => !device.startsWith(DEVICE_PREFIX))
    .map(({ destination }) => destination)
    .filter((range) => isWithin(range, pool) && !isWithin(pool, range));
  const taken = mergeRanges([...hostNetworks.flatMap((cidr) => parseCidr(cidr) ?? []), ...routed]);
  if (subtractRanges([pool], taken).length > 0) return taken;
  throw new SmolVMError("NETWORK_FAILED", `Cannot lease a TAP address: the host itself is in ${TAP_POOL}`, {
    details: { pool: TAP_POOL, hostNetworks },
    hint: 'Use network "user".',
  });
}

function isWithin(inner: Ipv4Range, outer: Ipv4Range): boolean {
  return outer.first <= inner.first && inner.last <= outer.last;
}
