// What a VM's guest may reach, as `vm.network`.

import type { WaitOptions } from "../base/deadline.js";
import type { EgressPolicy } from "../vm/network-config.js";
import type { NetworkDenial } from "../vm/refusals.js";
import type { VmManager } from "../vm/vm-manager.js";

/** The egress policy of a VM, and what it refused. */
export class VmNetwork {
  readonly #manager: () => VmManager;
  readonly #vmId: () => string;

  /** @internal */
  constructor(manager: () => VmManager, vmId: () => string) {
    this.#manager = manager;
    this.#vmId = vmId;
  }

  /**
   * Replaces what the guest may reach, as one change. Connections that the new policy refuses end at once. The policy
   * stays over restarts; a VM that does not run has it from its next start on.
   *
   * @throws {INVALID_CONFIG} naming the entry. @throws {UNSUPPORTED} for a VM without a network.
   * @throws {NETWORK_FAILED} {BUSY} {ABORTED} {TIMEOUT} The old policy stays.
   * @example
   * await vm.network.update({ allow: ["registry.npmjs.org", "*.github.com:443"] });
   */
  async update(policy: EgressPolicy, options?: WaitOptions): Promise<void> {
    return this.#manager().networks.update(this.#vmId(), policy, options);
  }

  /** What the guest was refused, the oldest first, and what would permit it. About 1 MiB is kept, also after a stop. */
  async denials(options?: WaitOptions): Promise<NetworkDenial[]> {
    return this.#manager().networks.denials(this.#vmId(), options);
  }
}
