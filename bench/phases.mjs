// Where the time goes: the phases that the library tells while a group is measured.

import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { PHASE_CHANNEL } from "../dist/index.js";
import { summarize } from "./stats.mjs";

/** Collects the phases of some operations until it is stopped. @param {string[]} operations */
export function collectPhases(operations) {
  /** @type {Map<string, number[]>} */
  const samples = new Map();
  const listen = ({ operation, phase, durationMs }) => {
    if (!operations.includes(operation)) return;
    const name = `${operation}: ${phase}`;
    samples.set(name, [...(samples.get(name) ?? []), durationMs]);
  };
  subscribe(PHASE_CHANNEL, listen);
  return {
    stop() {
      unsubscribe(PHASE_CHANNEL, listen);
      return [...samples].map(([name, times]) => ({ name, ...summarize(times) }));
    },
  };
}
