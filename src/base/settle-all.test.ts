import { expect, test } from "vitest";
import { deferred } from "./deferred.js";
import { settleAll } from "./settle-all.js";

test("gives all values in order", async () => {
  expect(await settleAll([Promise.resolve(1), Promise.resolve(2)])).toEqual([1, 2]);
});

test("rejects with a failure only when nothing is under way any more", async () => {
  const slow = deferred<number>();
  let isOver = false;
  const all = settleAll([Promise.reject(new RangeError("no")), slow.promise]).finally(() => {
    isOver = true;
  });
  const outcome = expect(all).rejects.toThrow(RangeError);
  await new Promise((resolve) => setImmediate(resolve));
  expect(isOver).toBe(false);
  slow.resolve(1);
  await outcome;
});
