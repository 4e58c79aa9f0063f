// One object that says how long an operation may still take and who may cut it short.
// Monotonic: a wall clock that jumps changes nothing. It never cancels work by itself.

import { setMaxListeners } from "node:events";

/** What every waiting call accepts. */
export interface WaitOptions {
  /** Aborts the wait. The call then rejects with `ABORTED`. */
  readonly signal?: AbortSignal | undefined;
  /** Longest wait in milliseconds. */
  readonly timeoutMs?: number | undefined;
}

/** A point on the monotonic clock plus the caller's `AbortSignal`. */
export class Deadline {
  readonly #expiresAtMs: number;
  /** The limit it was made with, in milliseconds; for error messages. */
  readonly limitMs: number;
  readonly signal: AbortSignal | undefined;

  private constructor(limitMs: number, expiresAtMs: number, signal: AbortSignal | undefined) {
    this.limitMs = limitMs;
    this.#expiresAtMs = expiresAtMs;
    this.signal = signal;
    // Every wait listens on it, and many waits may share it; Node.js would take that for a leak.
    if (signal !== undefined) setMaxListeners(0, signal);
  }

  /** A deadline `limitMs` milliseconds from now. */
  static after(limitMs: number, signal?: AbortSignal): Deadline {
    return new Deadline(limitMs, performance.now() + limitMs, signal);
  }

  /** The deadline a caller asked for, or `defaultMs` where the caller gave none. */
  static from(options: WaitOptions | undefined, defaultMs: number): Deadline {
    return Deadline.after(options?.timeoutMs ?? defaultMs, options?.signal);
  }

  /** Milliseconds left, never negative. */
  get remainingMs(): number {
    return Math.max(0, this.#expiresAtMs - performance.now());
  }

  get hasExpired(): boolean {
    return this.remainingMs === 0;
  }

  get isAborted(): boolean {
    return this.signal?.aborted ?? false;
  }

  /** The earlier of this deadline and `limitMs` from now, with the same signal. */
  atMost(limitMs: number): Deadline {
    const capMs = performance.now() + limitMs;
    return capMs < this.#expiresAtMs ? new Deadline(limitMs, capMs, this.signal) : this;
  }
}

/**
 * One time limit for several calls, one after the other: each gets what the ones before left of it.
 *
 * @returns A function that gives the options for the next call.
 */
export function shareLimit(options: WaitOptions): () => WaitOptions {
  const { timeoutMs, signal } = options;
  if (timeoutMs === undefined) return () => ({ signal });
  const whole = Deadline.after(timeoutMs, signal);
  return () => ({ signal, timeoutMs: whole.remainingMs });
}
