// Starts a VM that exists.

import { Deadline, shareLimit, type WaitOptions } from "../base/deadline.js";
import { isSmolVMError } from "../errors/smolvm-error.js";
import type { BootOptions } from "./boot-attempts.js";
import { bootVm } from "./boot-vm.js";
import { CLAIM_TIMEOUT_MS, changeVm } from "./claim.js";
import type { VmContext } from "./context.js";
import { failureOf } from "./failure.js";
import { releaseRuntime } from "./release-runtime.js";
import { decodeSpec, encodeSpec, type VmSpec } from "./vm-spec.js";

/**
 * Starts a VM and waits until it takes commands. Nothing happens when it runs already.
 *
 * @throws {BOOT_TIMEOUT} {BOOT_FAILED} with `details.serialTail` and `details.vmmStderr`; the VM is then in state `error`.
 * @throws {VM_NOT_FOUND} {INVALID_STATE} {BUSY} {ABORTED} {HOST_UNSUPPORTED} {NETWORK_FAILED} {PORT_IN_USE}
 */
export async function startVm(ctx: VmContext, vmId: string, options: BootOptions = {}): Promise<void> {
  const rest = shareLimit(options);
  await changeVm(ctx, { vmId, verb: "start" }, Deadline.from(rest(), CLAIM_TIMEOUT_MS), {
    work: async (row) => {
      const spec = await renewed(ctx, vmId, decodeSpec(vmId, row.spec), rest());
      await bootVm(ctx, { vmId, spec }, { ...rest(), onProgress: options.onProgress });
      return { end: { status: "running" }, value: undefined };
    },
    afterFailure: async (row, error) => {
      // What cannot be released stays on record; refreshVm tries again at the next look.
      await releaseRuntime(ctx, vmId).catch(() => {});
      const isUnharmed = isSmolVMError(error, "ABORTED");
      return isUnharmed ? { status: row.status, failure: row.failure } : { status: "error", failure: failureOf(error) };
    },
  });
}

/** A VM that another SmolVM has made boots with this one's agent, which knows what this one asks of it. */
async function renewed(ctx: VmContext, vmId: string, spec: VmSpec, options: WaitOptions): Promise<VmSpec> {
  const initrdPath = await ctx.images.renew(spec.initrdPath, options);
  if (initrdPath === spec.initrdPath) return spec;
  const renewedSpec = { ...spec, initrdPath };
  ctx.store.vms.setSpec(vmId, encodeSpec(renewedSpec)); // At once: what it names is not pruned.
  return renewedSpec;
}
