// Deletes a VM: afterwards nothing of it is on the host.

import { Deadline, type WaitOptions } from "../base/deadline.js";
import { selfIdentity } from "../host/process-identity.js";
import { CLAIM_TIMEOUT_MS, claimVm } from "./claim.js";
import type { VmContext } from "./context.js";
import { failureOf } from "./failure.js";
import { removeVm } from "./remove-vm.js";
import { bringToRest } from "./stop-vm.js";
import { decodeSpec } from "./vm-spec.js";

/** What is left of a deleted VM. */
export interface DeletedVm {
  /** The disk, when it was to be retained. */
  readonly retainedDiskPath?: string;
}

/**
 * Stops and deletes a VM. A guest whose disk goes with it is killed; one whose disk stays is shut down in order.
 *
 * @throws {VM_NOT_FOUND} {BUSY} {ABORTED}
 * @throws {STORAGE_FAILED} when a file could not be removed: the VM is then in state `error` and can be deleted again.
 */
export async function deleteVm(ctx: VmContext, vmId: string, options: WaitOptions = {}): Promise<DeletedVm> {
  const deadline = Deadline.from(options, CLAIM_TIMEOUT_MS);
  const row = await claimVm(ctx, vmId, "delete", deadline);
  if (row === "already") return {};
  const self = await selfIdentity();
  try {
    const spec = decodeSpec(vmId, row.spec);
    const diskStays = spec.disk.mode === "shared" || spec.retainDiskOnDelete;
    if (diskStays && (row.status === "running" || row.status === "paused")) await bringToRest(ctx, row, deadline);
    const retainedDiskPath = await removeVm(ctx, row);
    return retainedDiskPath === undefined ? {} : { retainedDiskPath };
  } catch (error) {
    const isLeft = ctx.store.vms.find(vmId) !== undefined;
    if (isLeft) ctx.store.vms.settle(vmId, self, { status: "error", failure: failureOf(error) });
    throw error;
  }
}
