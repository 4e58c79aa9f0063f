// Ends a process group for good, and only the one that is meant.

import { Deadline } from "../base/deadline.js";
import { pollUntil } from "../base/sleep.js";
import { SmolVMError } from "../errors/smolvm-error.js";
import { isAlive, type ProcessIdentity, signalProcess } from "./process-identity.js";

/** How long the kernel may take to end a process after SIGKILL, in milliseconds. */
const KILL_LIMIT_MS = 10_000;

/**
 * Signals the group that a process leads, if it is still that process, and waits until it is gone.
 *
 * @param graceMs With a grace, SIGTERM first and SIGKILL after it; 0 means SIGKILL at once.
 * @throws {INTERNAL} when the kernel does not end it in time.
 */
export async function endProcessGroup(identity: ProcessIdentity, graceMs = 0): Promise<void> {
  if (graceMs > 0 && (await signalProcess(identity, "SIGTERM", "group"))) {
    if (await hasEnded(identity, graceMs)) return;
  }
  if (!(await signalProcess(identity, "SIGKILL", "group"))) return;
  if (await hasEnded(identity, KILL_LIMIT_MS)) return;
  throw new SmolVMError("INTERNAL", `Process ${identity.pid} did not end within ${KILL_LIMIT_MS} ms of SIGKILL`, {
    details: { pid: identity.pid },
  });
}

/** Pause between two looks at a process that should be about to end, in milliseconds; a look costs microseconds. */
const END_PAUSE_MS = 2;

/** @returns Whether the process ended within `limitMs`. */
export async function hasEnded(identity: ProcessIdentity, limitMs: number): Promise<boolean> {
  const look = async () => ((await isAlive(identity)) ? undefined : true);
  return (await pollUntil(look, Deadline.after(limitMs), END_PAUSE_MS)) ?? false;
}
