import { expect, test } from "vitest";
import { Deadline } from "./deadline.js";
import { deferred } from "./deferred.js";
import { Slots } from "./slots.js";

const ample = () => Deadline.after(10_000);
const late = (): never => {
  throw new RangeError("late");
};

test("no more goes on than there are slots, and who asks first is served first", async () => {
  const slots = new Slots(2);
  const gates = Array.from({ length: 5 }, () => deferred<void>());
  const begun: number[] = [];
  const runs = gates.map((gate, index) =>
    slots.run(ample(), late, async () => {
      begun.push(index);
      await gate.promise;
      return index;
    }),
  );
  for (const [index, gate] of gates.entries()) {
    await new Promise((resolve) => setImmediate(resolve));
    expect(begun).toEqual([0, 1, 2, 3, 4].slice(0, Math.min(5, index + 2)));
    gate.resolve();
    expect(await runs[index]).toBe(index);
  }
});

test("work that fails gives its slot back", async () => {
  const slots = new Slots(1);
  await expect(slots.run(ample(), late, () => Promise.reject(new TypeError("no")))).rejects.toThrow(TypeError);
  expect(await slots.run(ample(), late, async () => "yes")).toBe("yes");
});

test("who waits too long, or no longer, leaves the turn to the next", async () => {
  const slots = new Slots(1);
  const gate = deferred<void>();
  const abort = new AbortController();
  const first = slots.run(ample(), late, () => gate.promise);
  const tooLong = slots.run(Deadline.after(5), late, async () => "never");
  const aborted = slots.run(Deadline.after(10_000, abort.signal), late, async () => "never");
  const patient = slots.run(ample(), late, async () => "mine");
  const outcomes = Promise.allSettled([tooLong, aborted]);
  abort.abort();
  for (const outcome of await outcomes) expect(outcome).toMatchObject({ reason: expect.any(RangeError) });
  gate.resolve();
  await first;
  expect(await patient).toBe("mine");
  expect(await slots.run(ample(), late, async () => "again")).toBe("again");
});
