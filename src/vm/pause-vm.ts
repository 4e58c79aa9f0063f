// Stops and continues a VM's vCPUs.

import { backendFor } from "../backends/registry.js";
import { Deadline, type WaitOptions } from "../base/deadline.js";
import { SmolVMError } from "../errors/smolvm-error.js";
import { setGuestClock } from "../guest/configure.js";
import { changeVm } from "./claim.js";
import type { VmContext } from "./context.js";
import type { GuestAddress } from "./guest-channels.js";
import { runtimeDirectory } from "./resources.js";
import { decodeSpec } from "./vm-spec.js";

/** Default bound of both calls, in milliseconds. */
const MONITOR_TIMEOUT_MS = 30_000;

/** @throws {VM_NOT_FOUND} {INVALID_STATE} {BUSY} {ABORTED} {TIMEOUT} */
export async function pauseVm(ctx: VmContext, vmId: string, options: WaitOptions = {}): Promise<void> {
  await moveVcpus(ctx, vmId, "pause", Deadline.from(options, MONITOR_TIMEOUT_MS));
}

/**
 * Continues a paused VM and sets its clock, which stood still.
 *
 * @throws {VM_NOT_FOUND} {INVALID_STATE} {BUSY} {ABORTED} {TIMEOUT}
 */
export async function resumeVm(ctx: VmContext, vmId: string, options: WaitOptions = {}): Promise<void> {
  const deadline = Deadline.from(options, MONITOR_TIMEOUT_MS);
  const guest = await moveVcpus(ctx, vmId, "resume", deadline);
  if (guest !== undefined) await setGuestClock(await ctx.channels.get(guest, deadline), deadline);
}

/** @returns Where the guest can be reached; `undefined` when there was nothing to do. */
function moveVcpus(
  ctx: VmContext,
  vmId: string,
  verb: "pause" | "resume",
  deadline: Deadline,
): Promise<GuestAddress | undefined> {
  return changeVm(ctx, { vmId, verb }, deadline, {
    work: async (row) => {
      const { backend } = decodeSpec(vmId, row.spec);
      const runtimeDir = runtimeDirectory(ctx, vmId);
      if (runtimeDir === undefined) throw new SmolVMError("INTERNAL", `VM "${vmId}" runs without a runtime directory`);
      await backendFor(backend)[verb](runtimeDir, deadline);
      return { end: { status: verb === "pause" ? "paused" : "running" }, value: { vmId, backend, runtimeDir } };
    },
  });
}
