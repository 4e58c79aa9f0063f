// VMs that an earlier SmolVM has started and that run on: what it started beside them takes no orders of this one.

import { SmolVMError } from "../errors/smolvm-error.js";
import type { VmRow } from "../storage/vm-store.js";
import { isLive } from "./lifecycle.js";
import { hasPolicy } from "./vm-spec.js";

/** Whether it is one: its ports are led by passt, and its guard is told nothing. The next start changes that. */
export function isEarlierRun({ status, spec }: Pick<VmRow, "status" | "spec">): boolean {
  return isLive(status) && !hasPolicy(spec);
}

/** @param purpose Completes "Cannot ... VM". */
export function earlierRun(vmId: string, purpose: string): SmolVMError {
  return new SmolVMError("UNSUPPORTED", `Cannot ${purpose} VM "${vmId}": an earlier SmolVM started it`, {
    details: { vmId },
    hint: "Stop the VM and start it again.",
  });
}
