// Waiting for time or for a condition, always bounded by a deadline.

import type { Deadline } from "./deadline.js";

/** Longest time a Node.js timer can hold, in milliseconds (about 24 days); longer ones would fire at once. */
const TIMER_LIMIT_MS = 2 ** 31 - 1;

/**
 * Calls `fire` after `ms` milliseconds (`Infinity`: never).
 *
 * @returns A function that keeps it from being called.
 */
export function startTimer(ms: number, fire: () => void): () => void {
  let timer: NodeJS.Timeout | undefined;
  let restMs = ms;
  const wait = () => {
    const sliceMs = Math.min(restMs, TIMER_LIMIT_MS);
    restMs -= sliceMs;
    timer = setTimeout(restMs > 0 ? wait : fire, sliceMs);
  };
  wait();
  return () => clearTimeout(timer);
}

/** Resolves after `ms` milliseconds (`Infinity`: never), or at once when `signal` aborts. It never rejects. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) {
      resolve();
      return;
    }
    const finish = () => {
      cancel();
      signal?.removeEventListener("abort", finish);
      resolve();
    };
    const cancel = startTimer(ms, finish);
    signal?.addEventListener("abort", finish, { once: true });
  });
}

/** First pause between two looks of {@link pollUntil}, in milliseconds. */
const FIRST_PAUSE_MS = 2;
/** Longest pause between two looks of {@link pollUntil} unless asked otherwise, in milliseconds. */
const LONGEST_PAUSE_MS = 50;

/**
 * Calls `look` until it gives something other than `undefined`.
 *
 * @param look Cheap check; its value ends the wait.
 * @param deadline Bound of the wait.
 * @param longestPauseMs Pauses grow from 2 ms to this. Default 50.
 * @returns The value, or `undefined` when the deadline passed or its signal aborted first.
 */
export async function pollUntil<T>(
  look: () => T | undefined | Promise<T | undefined>,
  deadline: Deadline,
  longestPauseMs = LONGEST_PAUSE_MS,
): Promise<T | undefined> {
  let pauseMs = FIRST_PAUSE_MS;
  for (;;) {
    const value = await look();
    if (value !== undefined) return value;
    if (deadline.hasExpired || deadline.isAborted) return undefined;
    await sleep(Math.min(pauseMs, deadline.remainingMs), deadline.signal);
    pauseMs = Math.min(pauseMs * 2, longestPauseMs);
  }
}
