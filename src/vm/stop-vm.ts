// Stops a VM in order: its guest ends its processes and syncs its disk, then the VMM goes.

import { backendFor } from "../backends/registry.js";
import { Deadline, type WaitOptions } from "../base/deadline.js";
import { isSmolVMError } from "../errors/smolvm-error.js";
import { shutdownGuest } from "../guest/shutdown.js";
import { selfIdentity } from "../host/process-identity.js";
import type { VmRow } from "../storage/vm-store.js";
import { CLAIM_TIMEOUT_MS, claimVm } from "./claim.js";
import type { VmContext } from "./context.js";
import { releaseRuntime } from "./release-runtime.js";
import { runtimeDirectory } from "./resources.js";
import { decodeSpec } from "./vm-spec.js";

/** Time that the guest's processes get between SIGTERM and SIGKILL, in milliseconds. */
const GUEST_GRACE_MS = 3_000;
/** Longest wait for the guest to come to rest, in milliseconds; it is killed after that. */
const SHUTDOWN_TIMEOUT_MS = 10_000;
/** Time that the VMM gets to close its files, in milliseconds. */
const VMM_GRACE_MS = 2_000;

/**
 * Stops a VM; a guest that does not answer is killed after 10 s. Nothing happens when it does not run.
 *
 * @throws {VM_NOT_FOUND} {BUSY} {ABORTED}
 */
export async function stopVm(ctx: VmContext, vmId: string, options: WaitOptions = {}): Promise<void> {
  const deadline = Deadline.from(options, CLAIM_TIMEOUT_MS);
  const row = await claimVm(ctx, vmId, "stop", deadline);
  if (row === "already") return;
  const self = await selfIdentity();
  try {
    await bringToRest(ctx, row, deadline);
    ctx.store.vms.settle(vmId, self, { status: "stopped" });
  } catch (error) {
    ctx.store.vms.settle(vmId, self, { status: row.status });
    throw error;
  }
}

/** Ends a running or paused guest in order where it plays along. The caller holds the claim. */
export async function bringToRest(ctx: VmContext, row: VmRow, deadline: Deadline): Promise<void> {
  const runtimeDir = runtimeDirectory(ctx, row.id);
  if (runtimeDir !== undefined) {
    try {
      await askToShutDown(ctx, row, { runtimeDir, deadline: deadline.atMost(SHUTDOWN_TIMEOUT_MS) });
    } catch (error) {
      if (isSmolVMError(error, "ABORTED")) throw error;
      // Frozen, crashed or hostile: what it cannot do in order is done to it.
    }
  }
  await releaseRuntime(ctx, row.id, { graceMs: VMM_GRACE_MS });
}

async function askToShutDown(
  ctx: VmContext,
  row: VmRow,
  { runtimeDir, deadline }: { readonly runtimeDir: string; readonly deadline: Deadline },
): Promise<void> {
  const { backend } = decodeSpec(row.id, row.spec);
  if (row.status === "paused") await backendFor(backend).resume(runtimeDir, deadline);
  const connection = await ctx.channels.get({ vmId: row.id, backend, runtimeDir }, deadline);
  await shutdownGuest(connection, GUEST_GRACE_MS, deadline);
}
