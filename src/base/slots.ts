// A bound on how much of one kind of work goes on at a time; who asks first is served first.

import type { Deadline } from "./deadline.js";
import { type Deferred, deferred } from "./deferred.js";
import { within } from "./within.js";

export class Slots {
  #free: number;
  readonly #waiters: Deferred<void>[] = [];

  /** @param limit How much may go on at a time, at least 1. */
  constructor(limit: number) {
    this.#free = limit;
  }

  /** Whether somebody waits for a slot. */
  get isBusy(): boolean {
    return this.#waiters.length > 0;
  }

  /**
   * Does the work as soon as there is a free slot.
   *
   * @param late Called when the deadline passes, or its signal aborts, while it waits: throws what the caller gets.
   */
  async run<T>(deadline: Deadline, late: () => never, work: () => Promise<T>): Promise<T> {
    await this.#enter(deadline, late);
    try {
      return await work();
    } finally {
      this.#leave();
    }
  }

  async #enter(deadline: Deadline, late: () => never): Promise<void> {
    if (this.#free > 0) {
      this.#free -= 1;
      return;
    }
    const waiter = deferred<void>();
    this.#waiters.push(waiter);
    await within(waiter.promise, deadline, () => {
      const index = this.#waiters.indexOf(waiter);
      if (index >= 0) this.#waiters.splice(index, 1);
      else this.#leave(); // It was its turn in the same moment.
      return late();
    });
  }

  #leave(): void {
    const next = this.#waiters.shift();
    if (next === undefined) this.#free += 1;
    else next.resolve();
  }
}
