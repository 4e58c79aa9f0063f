// Stops and continues a VM's vCPUs.

import { backendFor } from "../backends/registry.js";
import { Deadline, type WaitOptions } from "../base/deadline.js";
import { SmolVMError } from "../errors/smolvm-error.js";
import { setGuestClock } from "../guest/configure.js";
import { selfIdentity } from "../host/process-identity.js";
import { claimVm } from "./claim.js";
import type { VmContext } from "./context.js";
import { runtimeDirectory } from "./resources.js";
import { decodeSpec } from "./vm-spec.js";

/** Default bound of both calls, in milliseconds. */
const MONITOR_TIMEOUT_MS = 30_000;

/** @throws {VM_NOT_FOUND} {INVALID_STATE} {BUSY} {ABORTED} {TIMEOUT} */
export function pauseVm(ctx: VmContext, vmId: string, options: WaitOptions = {}): Promise<void> {
  return moveVcpus(ctx, vmId, "pause", Deadline.from(options, MONITOR_TIMEOUT_MS));
}

/**
 * Continues a paused VM and sets its clock, which stood still.
 *
 * @throws {VM_NOT_FOUND} {INVALID_STATE} {BUSY} {ABORTED} {TIMEOUT}
 */
export function resumeVm(ctx: VmContext, vmId: string, options: WaitOptions = {}): Promise<void> {
  return moveVcpus(ctx, vmId, "resume", Deadline.from(options, MONITOR_TIMEOUT_MS));
}

async function moveVcpus(ctx: VmContext, vmId: string, verb: "pause" | "resume", deadline: Deadline): Promise<void> {
  const row = await claimVm(ctx, vmId, verb, deadline);
  if (row === "already") return;
  const self = await selfIdentity();
  try {
    const { backend } = decodeSpec(vmId, row.spec);
    const runtimeDir = runtimeDirectory(ctx, vmId);
    if (runtimeDir === undefined) throw new SmolVMError("INTERNAL", `VM "${vmId}" runs without a runtime directory`);
    await backendFor(backend)[verb](runtimeDir, deadline);
    if (verb === "resume") {
      const connection = await ctx.channels.get({ vmId, backend, runtimeDir }, deadline);
      await setGuestClock(connection, deadline);
    }
    ctx.store.vms.settle(vmId, self, { status: verb === "pause" ? "paused" : "running" });
  } catch (error) {
    ctx.store.vms.settle(vmId, self, { status: row.status });
    throw error;
  }
}
