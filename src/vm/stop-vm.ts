// Stops a VM in order: its guest ends its processes and syncs its disk, then the VMM goes.

import { backendFor } from "../backends/registry.js";
import { Deadline, type WaitOptions } from "../base/deadline.js";
import { Phases } from "../base/phases.js";
import { isSmolVMError } from "../errors/smolvm-error.js";
import { shutdownGuest } from "../guest/shutdown.js";
import type { VmRow } from "../storage/vm-store.js";
import { CLAIM_TIMEOUT_MS, changeVm } from "./claim.js";
import type { VmContext } from "./context.js";
import type { GuestAddress } from "./guest-channels.js";
import { releaseRuntime } from "./release-runtime.js";
import { runtimeDirectory } from "./resources.js";
import { decodeSpec } from "./vm-spec.js";

/** Time that the guest's processes get between SIGTERM and SIGKILL, in milliseconds. */
const GUEST_GRACE_MS = 3_000;
/** Longest wait for the guest to come to rest, in milliseconds; it is killed after that. */
const SHUTDOWN_TIMEOUT_MS = 10_000;
/** Longest wait for the monitor to pause a guest again, in milliseconds. */
const PAUSE_TIMEOUT_MS = 5_000;
/** Time that the VMM of a guest that did not come to rest gets to write what it has, in milliseconds. */
const VMM_GRACE_MS = 2_000;

/**
 * Stops a VM; a guest that does not answer is killed after 10 s. Nothing happens when it does not run.
 *
 * @throws {VM_NOT_FOUND} {BUSY} {ABORTED}
 */
export async function stopVm(ctx: VmContext, vmId: string, options: WaitOptions = {}): Promise<void> {
  const deadline = Deadline.from(options, CLAIM_TIMEOUT_MS);
  await changeVm(ctx, { vmId, verb: "stop" }, deadline, {
    work: async (row) => {
      await bringToRest(ctx, row, deadline);
      return { end: { status: "stopped" }, value: undefined };
    },
  });
}

/** Ends a running or paused guest in order where it plays along. The caller holds the claim. @throws {ABORTED} */
export async function bringToRest(ctx: VmContext, row: VmRow, deadline: Deadline): Promise<void> {
  const phases = new Phases("stop", row.id);
  let graceMs = VMM_GRACE_MS;
  const runtimeDir = runtimeDirectory(ctx, row.id);
  if (runtimeDir !== undefined) {
    const { backend } = decodeSpec(row.id, row.spec);
    try {
      await askToShutDown(ctx, { vmId: row.id, backend, runtimeDir }, row, deadline.atMost(SHUTDOWN_TIMEOUT_MS));
      graceMs = 0; // Its disk is at rest: the guest has flushed it, and so has the VMM.
    } catch (error) {
      // Frozen, crashed or hostile: what it cannot do in order is done to it.
      if (isSmolVMError(error, "ABORTED")) throw error;
    }
  }
  phases.end("guest at rest");
  await releaseRuntime(ctx, row.id, { graceMs });
  phases.end("processes and sockets gone");
}

async function askToShutDown(ctx: VmContext, guest: GuestAddress, row: VmRow, deadline: Deadline): Promise<void> {
  const backend = backendFor(guest.backend);
  const wasPaused = row.status === "paused";
  if (wasPaused) await backend.resume(guest.runtimeDir, deadline);
  try {
    const { disk, retainDiskOnDelete } = decodeSpec(row.id, row.spec);
    // A disk that others may read after the VM is left without a journal to replay.
    const isClosed = disk.mode === "shared" || retainDiskOnDelete;
    await shutdownGuest(await ctx.channels.get(guest, deadline), { graceMs: GUEST_GRACE_MS, isClosed }, deadline);
  } catch (error) {
    // Aborted: the caller records the state before, so that has to be true.
    const back = Deadline.after(PAUSE_TIMEOUT_MS);
    if (wasPaused && isSmolVMError(error, "ABORTED")) await backend.pause(guest.runtimeDir, back).catch(() => {});
    throw error;
  }
}
