// A lane of a running VM for this program, which may hand it on to a helper.

import type { Deadline } from "../base/deadline.js";
import { pollUntil } from "../base/sleep.js";
import { SmolVMError } from "../errors/smolvm-error.js";
import { waitError } from "../errors/wait-errors.js";
import { isAlive, selfIdentity } from "../host/process-identity.js";
import type { LaneLease } from "../storage/lane-store.js";
import type { Store } from "../storage/store.js";

/**
 * Leases a free lane; those of dead processes are free.
 *
 * @param laneCount How many lanes the VM has.
 * @throws {BUSY} when other processes held all lanes until the deadline. @throws {VM_NOT_FOUND} {ABORTED}
 */
export async function leaseLane(
  store: Store,
  { vmId, laneCount }: { readonly vmId: string; readonly laneCount: number },
  deadline: Deadline,
): Promise<LaneLease> {
  const holder = await selfIdentity();
  const lane = await pollUntil(async () => {
    const leases = store.lanes.list(vmId);
    const living = await Promise.all(leases.map((lease) => isAlive(lease.holder)));
    return store.lanes.lease(vmId, { laneCount, holder, dead: leases.filter((_, index) => !living[index]) });
  }, deadline);
  if (lane !== undefined) return { lane, holder };
  if (deadline.isAborted) throw waitError(`Connection to VM "${vmId}"`, deadline);
  throw new SmolVMError("BUSY", `Cannot connect to VM "${vmId}": other processes hold all ${laneCount} lanes`, {
    details: { vmId, laneCount },
  });
}
