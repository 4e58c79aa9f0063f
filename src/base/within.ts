// Waiting for a promise no longer than a deadline allows.

import type { Deadline } from "./deadline.js";
import { sleep } from "./sleep.js";

/**
 * Waits for `work`; when the deadline passes or its signal aborts first, the answer is what `otherwise` gives or throws.
 *
 * `work` goes on then, and whatever becomes of it is nobody's concern: a late rejection is not reported as unhandled.
 * Neither a timer nor a listener is left behind.
 */
export async function within<T, O>(work: Promise<T>, deadline: Deadline, otherwise: () => O): Promise<T | O> {
  const cancel = new AbortController();
  const onAbort = () => cancel.abort();
  // Not AbortSignal.any: on Node.js 20 a long-lived signal remembers everything that was ever made of it.
  deadline.signal?.addEventListener("abort", onAbort, { once: true });
  if (deadline.isAborted) cancel.abort();
  try {
    const outcome = await Promise.race([
      work.then((value) => ({ value })),
      sleep(deadline.remainingMs, cancel.signal).then(() => undefined),
    ]);
    return outcome === undefined ? otherwise() : outcome.value;
  } finally {
    deadline.signal?.removeEventListener("abort", onAbort);
    cancel.abort();
  }
}
