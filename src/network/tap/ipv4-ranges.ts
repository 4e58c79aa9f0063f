// Sets of IPv4 addresses, as ranges in order that do not touch: what an interval set of the packet filter takes.

import type { Ipv4Range } from "../ipv4.js";

/** In order, none touching the next. */
export type Ipv4Ranges = readonly Ipv4Range[];

/** Every address of some range. */
export function mergeRanges(ranges: Iterable<Ipv4Range>): Ipv4Ranges {
  const merged: Ipv4Range[] = [];
  for (const next of [...ranges].sort((a, b) => a.first - b.first)) {
    const last = merged.at(-1);
    if (last === undefined || next.first > last.last + 1) merged.push(next);
    else if (next.last > last.last) merged[merged.length - 1] = { first: last.first, last: next.last };
  }
  return merged;
}

/** Every address of `ranges` that `without` has not. Both may be in any order. */
export function subtractRanges(ranges: Iterable<Ipv4Range>, without: Iterable<Ipv4Range>): Ipv4Ranges {
  const holes = mergeRanges(without);
  return mergeRanges(ranges).flatMap((range) => cutOut(range, holes));
}

/** True when an address is in both. */
export function doRangesOverlap(a: Iterable<Ipv4Range>, b: Iterable<Ipv4Range>): boolean {
  const others = [...b];
  return [...a].some((one) => others.some((other) => one.first <= other.last && other.first <= one.last));
}

function cutOut(range: Ipv4Range, holes: Ipv4Ranges): Ipv4Range[] {
  const rest: Ipv4Range[] = [];
  let { first } = range;
  for (const hole of holes) {
    if (hole.last < first || hole.first > range.last) continue;
    if (hole.first > first) rest.push({ first, last: hole.first - 1 });
    first = hole.last + 1;
  }
  if (first <= range.last) rest.push({ first, last: range.last });
  return rest;
}
