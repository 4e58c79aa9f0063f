// Which call is legal in which state, as one table.

import type { VmStatus, VmTransition } from "../storage/vm-store.js";

/** Calls that change a VM's state. */
export type LifecycleVerb =
  | "start"
  | "stop"
  | "pause"
  | "resume"
  | CaptureVerb
  | "rewind"
  | "network"
  | "expose"
  | "delete";
// `network` is a new egress policy, a port that is closed, or a helper that is started again; the status stays as it is.
/** Calls that copy a VM; it is afterwards as it was before. */
export type CaptureVerb = "snapshot" | "fork" | "checkpoint";

/** One row of the table. */
export interface LifecycleRule {
  readonly transition: VmTransition;
  /** Completes "Cannot ... VM"; the verb itself by default. */
  readonly words?: string;
  /** States in which the call does its work. */
  readonly from: readonly VmStatus[];
  /** States in which there is nothing to do: the call succeeds at once. */
  readonly already: readonly VmStatus[];
  /** For the other states: the call that helps. */
  readonly helps: Partial<Readonly<Record<VmStatus, string>>>;
}

const CAPTURE: LifecycleRule = {
  transition: "capturing",
  from: ["running", "paused"],
  already: [],
  helps: { created: "start()", stopped: "start()", error: "start()" },
};

export const LIFECYCLE: Readonly<Record<LifecycleVerb, LifecycleRule>> = {
  start: {
    transition: "starting",
    from: ["created", "stopped", "error"],
    already: ["running"],
    helps: { paused: "resume()" },
  },
  stop: { transition: "stopping", from: ["running", "paused"], already: ["created", "stopped", "error"], helps: {} },
  pause: {
    transition: "pausing",
    from: ["running"],
    already: ["paused"],
    helps: { created: "start()", stopped: "start()", error: "start()" },
  },
  resume: {
    transition: "resuming",
    from: ["paused"],
    already: ["running"],
    helps: { created: "start()", stopped: "start()", error: "start()" },
  },
  snapshot: CAPTURE,
  fork: CAPTURE,
  checkpoint: CAPTURE,
  rewind: {
    transition: "rewinding",
    from: ["running", "paused", "stopped", "error"],
    already: [],
    helps: { created: "start()" },
  },
  network: {
    transition: "networking",
    words: "change the network of",
    from: ["created", "running", "paused", "stopped", "error"],
    already: [],
    helps: {},
  },
  expose: {
    transition: "networking",
    words: "expose a port of",
    from: ["running"],
    already: [],
    helps: { created: "start()", paused: "resume()", stopped: "start()", error: "start()" },
  },
  delete: {
    transition: "deleting",
    from: ["created", "running", "paused", "stopped", "error"],
    already: [],
    helps: {},
  },
};

/** The call that makes a VM able to run commands, by its state. */
export const HELP_TO_RUN: Readonly<Record<VmStatus, string | undefined>> = {
  created: "start()",
  running: undefined,
  paused: "resume()",
  stopped: "start()",
  error: "start()",
};

/** Whether a VM of this status has a VMM. */
export function isLive(status: VmStatus): boolean {
  return status === "running" || status === "paused";
}
