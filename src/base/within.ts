// Waiting for a promise no longer than a deadline allows.

import type { Deadline } from "./deadline.js";
import { deferred } from "./deferred.js";
import { startTimer } from "./sleep.js";

/**
 * Waits for `work`; when the deadline passes or its signal aborts first, the answer is what `otherwise` gives or throws.
 *
 * `work` goes on then, and whatever becomes of it is nobody's concern: a late rejection is not reported as unhandled.
 * Neither a timer nor a listener is left behind.
 */
export function within<T, O>(work: Promise<T>, deadline: Deadline, otherwise: () => O): Promise<T | O> {
  // Neither AbortController nor AbortSignal.any: this is on the way of every command, an abort costs a stack trace, and
  // on Node.js 20 a long-lived signal remembers everything that was ever made of it.
  const { signal } = deadline;
  const answer = deferred<T | O>();
  let isOver = false;
  const settle = (give: () => void) => {
    if (isOver) return;
    isOver = true;
    cancelTimer();
    signal?.removeEventListener("abort", expire);
    give();
  };
  const expire = () =>
    settle(() => {
      try {
        answer.resolve(otherwise());
      } catch (error) {
        answer.reject(error);
      }
    });
  const cancelTimer = startTimer(deadline.remainingMs, expire);
  signal?.addEventListener("abort", expire, { once: true });
  work.then(
    (value) => settle(() => answer.resolve(value)),
    (error: unknown) => settle(() => answer.reject(error)),
  );
  // After what is settled already: finished work counts even if it is too late.
  if (deadline.isAborted) void Promise.resolve().then(expire);
  return answer.promise;
}
