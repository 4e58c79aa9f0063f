import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { Deadline } from "./deadline.js";
import { deferred } from "./deferred.js";
import { pollUntil, sleep } from "./sleep.js";

const FOREVER = Number.POSITIVE_INFINITY;
const DAY_MS = 24 * 60 * 60 * 1000;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance", "Date"] });
});

afterEach(() => {
  vi.useRealTimers();
});

describe("a deadline", () => {
  test("lets any number of waits share a signal, without a warning of a leak", () => {
    const warn = vi.spyOn(process, "emitWarning");
    const abort = new AbortController();
    for (let n = 0; n < 30; n++) {
      const deadline = Deadline.after(100, abort.signal);
      void sleep(deadline.remainingMs, deadline.signal);
    }
    expect(warn).not.toHaveBeenCalled();
    abort.abort();
  });

  test("counts down and never below nothing", () => {
    const deadline = Deadline.after(100);
    expect([deadline.limitMs, deadline.remainingMs, deadline.hasExpired]).toEqual([100, 100, false]);
    vi.advanceTimersByTime(60);
    expect(deadline.remainingMs).toBe(40);
    vi.advanceTimersByTime(1_000);
    expect([deadline.remainingMs, deadline.hasExpired]).toEqual([0, true]);
  });

  test("does not care about the wall clock", () => {
    const deadline = Deadline.after(100);
    vi.setSystemTime(Date.now() + DAY_MS);
    expect(deadline.remainingMs).toBe(100);
  });

  test("that never comes", () => {
    const deadline = Deadline.after(FOREVER);
    vi.advanceTimersByTime(1000 * DAY_MS);
    expect([deadline.remainingMs, deadline.hasExpired, deadline.isAborted]).toEqual([FOREVER, false, false]);
  });

  test("comes from what the caller asked for, or the default", () => {
    const { signal } = new AbortController();
    expect(Deadline.from(undefined, 7).limitMs).toBe(7);
    expect(Deadline.from({}, 7).limitMs).toBe(7);
    expect(Deadline.from({ timeoutMs: 0 }, 7).hasExpired).toBe(true);
    expect(Deadline.from({ timeoutMs: 9, signal }, 7)).toMatchObject({ limitMs: 9, signal });
  });

  test("is capped, and keeps the signal", () => {
    const abort = new AbortController();
    const deadline = Deadline.after(100, abort.signal);
    expect(deadline.atMost(200)).toBe(deadline);
    const capped = deadline.atMost(50);
    expect([capped.limitMs, capped.remainingMs]).toEqual([50, 50]);
    expect(Deadline.after(FOREVER).atMost(50).remainingMs).toBe(50);
    abort.abort();
    expect([deadline.isAborted, capped.isAborted]).toEqual([true, true]);
  });
});

describe("sleep", () => {
  async function hasEnded(sleeping: Promise<void>): Promise<boolean> {
    let ended = false;
    void sleeping.then(() => {
      ended = true;
    });
    await vi.advanceTimersByTimeAsync(0);
    return ended;
  }

  test("ends when it is time", async () => {
    const sleeping = sleep(100);
    await vi.advanceTimersByTimeAsync(99);
    expect(await hasEnded(sleeping)).toBe(false);
    await vi.advanceTimersByTimeAsync(1);
    expect(await hasEnded(sleeping)).toBe(true);
  });

  test.each([
    ["40 days", 40 * DAY_MS],
    ["100 days", 100 * DAY_MS],
  ])("for %s does not end before", async (_what, ms) => {
    const sleeping = sleep(ms);
    await vi.advanceTimersByTimeAsync(ms - 1);
    expect(await hasEnded(sleeping)).toBe(false);
    await vi.advanceTimersByTimeAsync(1);
    expect(await hasEnded(sleeping)).toBe(true);
  });

  test("for ever ends only when it is aborted", async () => {
    const abort = new AbortController();
    const sleeping = sleep(FOREVER, abort.signal);
    await vi.advanceTimersByTimeAsync(200 * DAY_MS);
    expect(await hasEnded(sleeping)).toBe(false);
    abort.abort();
    expect(await hasEnded(sleeping)).toBe(true);
    expect(vi.getTimerCount()).toBe(0);
  });

  test("does not begin when it was aborted before", async () => {
    expect(await hasEnded(sleep(100, AbortSignal.abort()))).toBe(true);
    expect(vi.getTimerCount()).toBe(0);
  });

  test("leaves no listener behind", async () => {
    const { signal } = new AbortController();
    const remove = vi.spyOn(signal, "removeEventListener");
    const sleeping = sleep(5, signal);
    await vi.advanceTimersByTimeAsync(5);
    await sleeping;
    expect(remove).toHaveBeenCalledTimes(1);
  });
});

describe("polling", () => {
  test("looks at least once, also when there is no time", async () => {
    expect(await pollUntil(() => "there", Deadline.after(0))).toBe("there");
    expect(await pollUntil(() => undefined, Deadline.after(0))).toBeUndefined();
    expect(await pollUntil(() => undefined, Deadline.after(FOREVER, AbortSignal.abort()))).toBeUndefined();
  });

  test("goes on until there is a value, false and null included", async () => {
    for (const value of [false, null, 0, ""]) {
      let looks = 0;
      const polling = pollUntil(async () => (++looks < 4 ? undefined : value), Deadline.after(FOREVER));
      await vi.advanceTimersByTimeAsync(1_000);
      expect(await polling).toBe(value);
      expect(looks).toBe(4);
    }
  });

  test("gives up at its deadline after a last look", async () => {
    const look = vi.fn(() => undefined);
    const polling = pollUntil(look, Deadline.after(500));
    await vi.advanceTimersByTimeAsync(500);
    expect(await polling).toBeUndefined();
    expect(look.mock.calls.length).toBeGreaterThan(8);
    const countAfter = look.mock.calls.length;
    await vi.advanceTimersByTimeAsync(500);
    expect(look).toHaveBeenCalledTimes(countAfter);
  });

  test("passes on what a look throws", async () => {
    const polling = pollUntil(() => Promise.reject(new RangeError("no")), Deadline.after(FOREVER));
    await expect(polling).rejects.toThrow(RangeError);
  });
});

test("a deferred is settled from outside", async () => {
  const [good, bad] = [deferred<number>(), deferred<number>()];
  good.resolve(5);
  bad.reject(new RangeError("no"));
  expect(await good.promise).toBe(5);
  await expect(bad.promise).rejects.toThrow(RangeError);
});
