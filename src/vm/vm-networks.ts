// The networks of VMs: what their guests may reach, and what they were refused.

import type { WaitOptions } from "../base/deadline.js";
import type { EgressPolicy } from "../network/egress-policy.js";
import { updateEgress } from "./change-network.js";
import { findVm } from "./claim.js";
import type { VmContext } from "./context.js";
import { type NetworkDenial, readRefusals } from "./refusals.js";
import type { ManagedCalls } from "./vm-guests.js";
import { decodeSpec } from "./vm-spec.js";

export class VmNetworks {
  readonly #ctx: VmContext;
  readonly #manager: ManagedCalls;

  /** @internal */
  constructor(ctx: VmContext, manager: ManagedCalls) {
    this.#ctx = ctx;
    this.#manager = manager;
  }

  /** Replaces what a VM's guest may reach. @see updateEgress for what it throws. */
  async update(vmId: string, policy: EgressPolicy, options?: WaitOptions): Promise<void> {
    return this.#manager.operate(options, (rest) => updateEgress(this.#ctx, vmId, policy, rest));
  }

  /** What a VM's guest was refused, the oldest first; about 1 MiB of it is kept. @throws {VM_NOT_FOUND} */
  async denials(vmId: string, options?: WaitOptions): Promise<NetworkDenial[]> {
    return this.#manager.operate(options, async () => {
      const { directory } = decodeSpec(vmId, findVm(this.#ctx, vmId).spec);
      return readRefusals(directory);
    });
  }
}
