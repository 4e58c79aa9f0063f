// Deletes a VM: afterwards nothing of it is on the host.

import { Deadline, type WaitOptions } from "../base/deadline.js";
import { isSmolVMError } from "../errors/smolvm-error.js";
import type { VmRow } from "../storage/vm-store.js";
import { CLAIM_TIMEOUT_MS, changeVm } from "./claim.js";
import type { VmContext } from "./context.js";
import { failureOf } from "./failure.js";
import { isLive } from "./lifecycle.js";
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
  const deleted = await changeVm<DeletedVm>(ctx, { vmId, verb: "delete" }, deadline, {
    work: async (row) => {
      if (isLive(row.status) && mustRest(row)) await bringToRest(ctx, row, deadline);
      const retainedDiskPath = await removeVm(ctx, row);
      return { end: "removed", value: retainedDiskPath === undefined ? {} : { retainedDiskPath } };
    },
    // Aborted while the guest was shutting down: nothing was removed yet.
    afterFailure: (row, error) =>
      isSmolVMError(error, "ABORTED")
        ? { status: row.status, failure: row.failure }
        : { status: "error", failure: failureOf(error) },
  });
  ctx.hooks.forget(vmId);
  return deleted ?? {};
}

/** A disk that outlives the VM is brought to rest; one that goes with it need not be. */
function mustRest(row: VmRow): boolean {
  const { disk, retainDiskOnDelete } = decodeSpec(row.id, row.spec);
  return disk.mode === "shared" || retainDiskOnDelete;
}
