import fc from "fast-check";
import { expect, test } from "vitest";
import { doRangesOverlap, mergeRanges, subtractRanges } from "./ipv4-ranges.js";

const [FIRST, LAST] = [0, 40];
const range = fc
  .tuple(fc.integer({ min: FIRST, max: LAST }), fc.integer({ min: 0, max: 9 }))
  .map(([first, more]) => ({ first, last: first + more }));
const ranges = fc.array(range, { maxLength: 6 });
const members = (list: readonly { first: number; last: number }[]) =>
  Array.from({ length: LAST + 20 }, (_, n) => n).filter((n) => list.some(({ first, last }) => first <= n && n <= last));

test("sets of addresses are what their members say, and are in order without touching", () => {
  fc.assert(
    fc.property(ranges, ranges, (a, b) => {
      const merged = mergeRanges(a);
      const rest = subtractRanges(a, b);
      const inB = new Set(members(b));
      expect(members(merged)).toEqual(members(a));
      expect(members(rest)).toEqual(members(a).filter((n) => !inB.has(n)));
      expect(doRangesOverlap(a, b)).toBe(members(a).some((n) => inB.has(n)));
      for (const list of [merged, rest]) {
        for (const [i, { first, last }] of list.entries()) {
          expect(first).toBeLessThanOrEqual(last);
          if (i > 0) expect(first).toBeGreaterThan((list[i - 1]?.last ?? 0) + 1);
        }
      }
    }),
  );
});

test("the last address is an address", () => {
  const all = { first: 0, last: 2 ** 32 - 1 };
  expect(subtractRanges([all], [{ first: 5, last: 2 ** 32 - 1 }])).toEqual([{ first: 0, last: 4 }]);
  expect(subtractRanges([all], [{ first: 0, last: 2 ** 32 - 2 }])).toEqual([{ first: all.last, last: all.last }]);
  expect(subtractRanges([all], [all])).toEqual([]);
});
