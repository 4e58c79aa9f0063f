// How often a program looks whether the rules of a VM's TAP device are still there: not before each command.

/** Milliseconds between two looks at the same VM. */
const CHECK_INTERVAL_MS = 2_000;

export class TapChecks {
  readonly #lastMs = new Map<string, number>();

  /** Whether it is time for a look, which then counts as done. */
  isDue(vmId: string): boolean {
    const now = performance.now();
    const last = this.#lastMs.get(vmId);
    if (last !== undefined && now - last < CHECK_INTERVAL_MS) return false;
    this.#lastMs.set(vmId, now);
    return true;
  }

  /** This program has just made the network. */
  made(vmId: string): void {
    this.#lastMs.set(vmId, performance.now());
  }
}
