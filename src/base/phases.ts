// Where the time of an operation goes, for whoever subscribes: `diagnostics_channel.subscribe("smolvm:phase", ...)`.
// Nothing is measured while nobody listens.

import { channel } from "node:diagnostics_channel";

/** Name of the channel of node:diagnostics_channel. */
export const PHASE_CHANNEL = "smolvm:phase";

const phases = channel(PHASE_CHANNEL);

/** One part of an operation has ended. */
export interface PhaseEvent {
  /** What was done, e.g. `start`, `capture`. */
  readonly operation: string;
  /** The VM it was done to. */
  readonly vmId: string;
  readonly phase: string;
  /** Since the phase before, or the operation's beginning, in milliseconds. */
  readonly durationMs: number;
}

/** The phases of one operation, which follow one another. */
export class Phases {
  readonly #operation: string;
  readonly #vmId: string;
  #sinceMs = phases.hasSubscribers ? performance.now() : 0;

  constructor(operation: string, vmId: string) {
    this.#operation = operation;
    this.#vmId = vmId;
  }

  /** Says that what was done since the last call was `phase`. */
  end(phase: string): void {
    if (!phases.hasSubscribers) return;
    const nowMs = performance.now();
    this.tell(phase, nowMs - this.#sinceMs);
    this.#sinceMs = nowMs;
  }

  /** Says how long something took that was measured elsewhere. */
  tell(phase: string, durationMs: number): void {
    if (!phases.hasSubscribers) return;
    phases.publish({ operation: this.#operation, vmId: this.#vmId, phase, durationMs } satisfies PhaseEvent);
  }
}
