// Brings one VM's record to agreement with the host: finishes changes whose process died, notices VMMs that ended,
// deletes VMs whose program is gone. Idempotent; safe to race.

import { backendFor } from "../backends/registry.js";
import { Deadline } from "../base/deadline.js";
import { setGuestClock } from "../guest/configure.js";
import { isAlive, isRunning, type ProcessIdentity, selfIdentity } from "../host/process-identity.js";
import type { Settlement, VmFailure, VmMove, VmRow, VmStatus } from "../storage/vm-store.js";
import { hasOrderlyEnd } from "./console-log.js";
import type { VmContext } from "./context.js";
import { failureOf } from "./failure.js";
import { isLive } from "./lifecycle.js";
import { finishNetworkChange } from "./live-network.js";
import { recordedProcess } from "./live-process.js";
import { releaseRuntime } from "./release-runtime.js";
import { removeVm } from "./remove-vm.js";
import { runtimeDirectory, VMM_ROLE } from "./resources.js";
import { settleVm } from "./settle-vm.js";
import { decodeSpec } from "./vm-spec.js";

/** How long a monitor may take to pause or resume during recovery, in milliseconds. */
const MONITOR_TIMEOUT_MS = 5_000;
/** How long a guest may take to have its clock set, in milliseconds. */
const CLOCK_TIMEOUT_MS = 1_000;

/** @returns The VM as it is now; `undefined` when it is gone. */
export async function refreshVm(ctx: VmContext, row: VmRow): Promise<VmRow | undefined> {
  if (row.move !== undefined) {
    if (await isAlive(row.move.mover)) return row;
    await finishMove(ctx, row, row.move);
  } else if (row.keeper !== undefined && !(await isAlive(row.keeper))) {
    await asMover(ctx, row, "deleting", () => removeVm(ctx, row));
  } else if (isLive(row.status) && !(await hasLiveVmm(ctx, row.id))) {
    await asMover(ctx, row, "stopping", async (self) => {
      // Looked at again under the claim: this process may have slept between the look and the claim.
      const end = (await hasLiveVmm(ctx, row.id)) ? { status: row.status } : await cleanUpAfter(ctx, row);
      ctx.store.vms.settle(row.id, self, end);
    });
  } else if (!isLive(row.status) && hasRuntime(ctx, row.id)) {
    // Something could not be released at its time.
    await asMover(ctx, row, "stopping", async (self) => {
      await releaseRuntime(ctx, row.id);
      ctx.store.vms.settle(row.id, self, { status: row.status, failure: row.failure });
    });
  } else {
    return row;
  }
  return ctx.store.vms.find(row.id);
}

/** Of a VM whose VMM has ended by itself. */
async function cleanUpAfter(ctx: VmContext, row: VmRow): Promise<Settlement> {
  const end = await describeEnd(row);
  await releaseRuntime(ctx, row.id);
  return end;
}

/** Takes over from a process that died in the middle of a change. */
async function finishMove(ctx: VmContext, row: VmRow, move: VmMove): Promise<void> {
  const self = await selfIdentity();
  if (!ctx.store.vms.takeOver(row.id, move, self)) return; // Somebody else does.
  const settle = (status: VmStatus, failure?: VmFailure) => ctx.store.vms.settle(row.id, self, { status, failure });
  try {
    switch (move.transition) {
      case "creating": // Its maker never got to know of it.
      case "deleting":
        await removeVm(ctx, row);
        return;
      case "starting":
      case "rewinding":
        await releaseRuntime(ctx, row.id);
        settle("error", { code: "INTERRUPTED", message: `The program that was ${move.transition} the VM ended` });
        return;
      case "stopping":
        await releaseRuntime(ctx, row.id);
        settle("stopped");
        return;
      case "pausing":
        settle(await moveMonitor(ctx, row, "paused"));
        return;
      case "resuming":
        settle(await moveMonitor(ctx, row, "running"));
        return;
      case "networking":
        await finishNetworkChange(ctx, row);
        // It may have stood still for a moment.
        settle(
          isLive(row.status) ? await moveMonitor(ctx, row, row.status === "paused" ? "paused" : "running") : row.status,
          row.failure,
        );
        return;
      case "capturing": // The copy stopped its vCPUs for a moment; whatever it was, it goes on.
        settle(await moveMonitor(ctx, row, row.status === "paused" ? "paused" : "running"));
    }
  } catch (error) {
    // What could not be released stays on record; the next look tries again.
    settleVm(ctx, row.id, self, { status: "error", failure: failureOf(error) });
    throw error;
  }
}

async function moveMonitor(ctx: VmContext, row: VmRow, to: "paused" | "running"): Promise<VmStatus> {
  const runtimeDir = runtimeDirectory(ctx, row.id);
  if (runtimeDir === undefined || !(await hasLiveVmm(ctx, row.id))) return row.status; // The next look sees it ended.
  const backend = backendFor(decodeSpec(row.id, row.spec).backend);
  const deadline = Deadline.after(MONITOR_TIMEOUT_MS);
  if (to === "paused") {
    await backend.pause(runtimeDir, deadline);
    return to;
  }
  await backend.resume(runtimeDir, deadline);
  // It stood still for as long as nobody looked. A guest that does not answer stays as late as it is.
  const bound = Deadline.after(CLOCK_TIMEOUT_MS);
  const guest = { vmId: row.id, backend: backend.name, runtimeDir };
  await ctx.channels.get(guest, bound).then(
    (connection) => setGuestClock(connection, bound).catch(() => {}),
    () => {},
  );
  return to;
}

/** Claims, works, and if the work fails gives the claim back with the failure. */
async function asMover(
  ctx: VmContext,
  row: VmRow,
  transition: "stopping" | "deleting",
  work: (self: ProcessIdentity) => Promise<unknown>,
): Promise<void> {
  const self = await selfIdentity();
  if (!ctx.store.vms.claim(row.id, [row.status], { transition, mover: self }, row.createdAtMs)) return;
  try {
    await work(self);
  } catch (error) {
    settleVm(ctx, row.id, self, { status: row.status, failure: failureOf(error) });
    throw error;
  }
}

async function hasLiveVmm(ctx: VmContext, vmId: string): Promise<boolean> {
  const vmm = recordedProcess(ctx, vmId, VMM_ROLE);
  return vmm !== undefined && (await isRunning(vmm));
}

function hasRuntime(ctx: VmContext, vmId: string): boolean {
  return ctx.store.resources.list(vmId).some(({ kind }) => kind !== "directory");
}

async function describeEnd(row: VmRow): Promise<Settlement> {
  const { directory } = decodeSpec(row.id, row.spec);
  if (await hasOrderlyEnd(directory)) return { status: "stopped" };
  const message =
    "The VMM ended by itself: a crash of the guest, its host restarted, or it was killed; see the VM's log";
  return { status: "error", failure: { code: "VMM_ENDED", message } };
}
