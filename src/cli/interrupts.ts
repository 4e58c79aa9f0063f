// What ends a command from outside: signals of the terminal, and a reader of our output that went away.

import { constants } from "node:os";

/** Signals that end the program in order. */
export const ENDING_SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** Why a command is to end. */
export type Interruption = (typeof ENDING_SIGNALS)[number] | "SIGPIPE";

/** What a shell reports for a program that a signal ended: this plus the signal's number. */
const SIGNAL_EXIT_BASE = 128;

export class Interrupts {
  readonly #controller = new AbortController();
  #first: Interruption | undefined;

  /** Fires with the first interruption. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  get first(): Interruption | undefined {
    return this.#first;
  }

  /** Exit status of a program that was interrupted, else `undefined`. */
  get exitCode(): number | undefined {
    return this.#first === undefined ? undefined : SIGNAL_EXIT_BASE + constants.signals[this.#first];
  }

  /** @returns False when it was interrupted before: whoever does it twice does not want to wait. */
  interrupt(by: Interruption): boolean {
    if (this.#first !== undefined) return false;
    this.#first = by;
    this.#controller.abort(by);
    return true;
  }
}
