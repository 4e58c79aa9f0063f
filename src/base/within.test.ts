import { getEventListeners } from "node:events";
import { afterEach, beforeEach, expect, onTestFinished, test, vi } from "vitest";
import { Deadline } from "./deadline.js";
import { deferred } from "./deferred.js";
import { within } from "./within.js";

const FOREVER = Number.POSITIVE_INFINITY;
const late = () => "late" as const;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
});

afterEach(() => {
  vi.useRealTimers();
});

function signalThatIsCounted() {
  const abort = new AbortController();
  return { abort, listeners: () => getEventListeners(abort.signal, "abort").length };
}

test("gives what the work gives, undefined included, and leaves nothing behind", async () => {
  const { abort, listeners } = signalThatIsCounted();
  for (const limitMs of [1_000, FOREVER]) {
    for (const value of [5, undefined, null]) {
      const work = deferred<unknown>();
      const waiting = within(work.promise, Deadline.after(limitMs, abort.signal), late);
      expect([listeners(), vi.getTimerCount() > 0]).toEqual([1, true]);
      work.resolve(value);
      expect(await waiting).toBe(value);
      expect([listeners(), vi.getTimerCount()]).toEqual([0, 0]);
    }
  }
});

test("throws what the work throws", async () => {
  const { abort, listeners } = signalThatIsCounted();
  const waiting = within(Promise.reject(new RangeError("no")), Deadline.after(1_000, abort.signal), late);
  await expect(waiting).rejects.toThrow(RangeError);
  expect([listeners(), vi.getTimerCount()]).toEqual([0, 0]);
});

test.each([
  ["the deadline", () => vi.advanceTimersByTimeAsync(1_000)],
  ["the signal", async (abort: AbortController) => abort.abort()],
])("ends with %s, and the work's later failure harms nobody", async (_what, end) => {
  const unhandled = vi.fn();
  process.on("unhandledRejection", unhandled);
  onTestFinished(() => void process.off("unhandledRejection", unhandled));
  const { abort, listeners } = signalThatIsCounted();
  const [first, second] = [deferred<never>(), deferred<never>()];
  const deadline = Deadline.after(1_000, abort.signal);
  const answered = within(first.promise, deadline, late);
  const thrown = within(second.promise, deadline, () => {
    throw new TypeError("too late");
  });
  const outcomes = Promise.allSettled([answered, thrown]);
  await end(abort);
  const [answer, failure] = await outcomes;
  expect(answer).toEqual({ status: "fulfilled", value: "late" });
  expect(failure).toMatchObject({ status: "rejected", reason: new TypeError("too late") });
  expect([listeners(), vi.getTimerCount()]).toEqual([0, 0]);
  first.reject(new RangeError("late"));
  second.reject(new RangeError("late"));
  await new Promise((resolve) => setImmediate(resolve));
  expect(unhandled).not.toHaveBeenCalled();
});

test("work that is done counts, also when there is no time", async () => {
  expect(await within(Promise.resolve(5), Deadline.after(0), late)).toBe(5);
  expect(await within(Promise.resolve(5), Deadline.after(FOREVER, AbortSignal.abort()), late)).toBe(5);
  const never = new Promise(() => {});
  expect(await within(never, Deadline.after(FOREVER, AbortSignal.abort()), late)).toBe("late");
  expect(vi.getTimerCount()).toBe(0);
});
