// Starts a VM that exists.

import { Deadline, shareLimit, type WaitOptions } from "../base/deadline.js";
import { isSmolVMError } from "../errors/smolvm-error.js";
import { selfIdentity } from "../host/process-identity.js";
import { bootVm } from "./boot-vm.js";
import { CLAIM_TIMEOUT_MS, claimVm } from "./claim.js";
import type { VmContext } from "./context.js";
import { failureOf } from "./failure.js";
import { releaseRuntime } from "./release-runtime.js";
import { decodeSpec } from "./vm-spec.js";

/**
 * Starts a VM and waits until it takes commands. Nothing happens when it runs already.
 *
 * @throws {BOOT_TIMEOUT} {BOOT_FAILED} with `details.serialTail` and `details.vmmStderr`; the VM is then in state `error`.
 * @throws {VM_NOT_FOUND} {INVALID_STATE} {BUSY} {ABORTED} {HOST_UNSUPPORTED} {NETWORK_FAILED} {PORT_IN_USE}
 */
export async function startVm(ctx: VmContext, vmId: string, options: WaitOptions = {}): Promise<void> {
  const rest = shareLimit(options);
  const row = await claimVm(ctx, vmId, "start", Deadline.from(rest(), CLAIM_TIMEOUT_MS));
  if (row === "already") return;
  const self = await selfIdentity();
  try {
    await bootVm(ctx, { vmId, spec: decodeSpec(vmId, row.spec) }, rest());
    ctx.store.vms.settle(vmId, self, { status: "running" });
  } catch (error) {
    const isReleased = await releaseRuntime(ctx, vmId).then(
      () => true,
      () => false, // It stays on record, and the next look tries again.
    );
    const isUnharmed = isReleased && isSmolVMError(error, "ABORTED");
    const end = isUnharmed ? { status: row.status } : { status: "error" as const, failure: failureOf(error) };
    ctx.store.vms.settle(vmId, self, end);
    throw error;
  }
}
