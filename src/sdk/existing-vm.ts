// Which VM a handle is for; kept apart from configurations by its class.

import type { VmManager } from "../vm/vm-manager.js";

export class ExistingVm {
  constructor(
    readonly manager: VmManager,
    readonly vmId: string,
    /** Whether the end of the handle's scope deletes the VM. */
    readonly isOwned: boolean,
  ) {}
}
