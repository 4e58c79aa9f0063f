// Waits until a guard says that everything works.

import type { Deadline } from "../base/deadline.js";
import { within } from "../base/within.js";
import { waitError } from "../errors/wait-errors.js";
import { endProcessGroup } from "../host/end-process.js";
import { identifyProcess } from "../host/process-identity.js";
import type { ChildEnd, ReadyChild } from "../host/ready-child.js";

/** Time between SIGTERM and SIGKILL, in milliseconds: netguard ends passt first, and gives it a second. */
const TERM_GRACE_MS = 2_000;

/** How to wait. */
export interface GuardWait {
  /** Names the wait in errors. */
  readonly action: string;
  readonly deadline: Deadline;
  /** The error for a guard that ended instead. */
  readonly failure: (end: ChildEnd) => Promise<Error>;
}

/**
 * While it waits its timer keeps this program alive, so that what follows is still done. A guard that is not ready in
 * time is ended.
 *
 * @throws What `failure` gives. @throws {TIMEOUT} {ABORTED}
 */
export async function awaitGuard(guard: ReadyChild, { action, deadline, failure }: GuardWait): Promise<void> {
  try {
    const ended = await within(guard.settled, deadline, () => {
      throw waitError(action, deadline);
    });
    if (ended !== undefined) throw await failure(ended);
  } catch (error) {
    // While its end was not seen the pid is still the guard's: this program is its parent.
    const identity = guard.hasEnded() ? undefined : await identifyProcess(guard.pid);
    if (identity !== undefined) await endProcessGroup(identity, TERM_GRACE_MS);
    throw error;
  } finally {
    guard.forget();
  }
}
