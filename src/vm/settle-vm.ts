// Giving a claim back after a failure, also when the database cannot be written at that moment.

import type { ProcessIdentity } from "../host/process-identity.js";
import type { Settlement } from "../storage/vm-store.js";
import type { VmContext } from "./context.js";

/** Pause between two tries, in milliseconds. */
const RETRY_PAUSE_MS = 1_000;

/**
 * Settles a VM, if it is still there. A claim of a living process is never taken over, so one that could not be given
 * back, as on a full disk, would block the VM for as long as this program runs: it is tried again until it works.
 */
export function settleVm(ctx: VmContext, vmId: string, self: ProcessIdentity, end: Settlement): void {
  try {
    if (ctx.store.vms.find(vmId)?.move === undefined) return;
    ctx.store.vms.settle(vmId, self, end);
  } catch {
    if (!ctx.isClosed()) setTimeout(() => settleVm(ctx, vmId, self, end), RETRY_PAUSE_MS).unref();
  }
}
