// A host port that leads to a guest, as `vm.expose` and `vm.ports` give it.

import type { WaitOptions } from "../base/deadline.js";
import { isSmolVMError } from "../errors/smolvm-error.js";
import type { PortForward } from "../vm/ports/vm-ports.js";
import type { VmManager } from "../vm/vm-manager.js";

export { DEFAULT_HOST_ADDRESS } from "../vm/ports/default-host-address.js";

/** A port of the host that leads to one of a VM's guest. */
export interface ExposedPort extends AsyncDisposable {
  readonly guestPort: number;
  /** The host's address that it listens on. */
  readonly hostAddress: string;
  readonly hostPort: number;
  /** Closes it; it needs no `this`. Closing twice is fine, and so is closing when the VM is gone. */
  readonly close: (options?: WaitOptions) => Promise<void>;
}

/** @internal */
export function exposedPort(manager: VmManager, vmId: string, forward: PortForward): ExposedPort {
  const { guestPort, hostAddress, hostPort } = forward;
  const close = async (options?: WaitOptions) => {
    try {
      await manager.ports.close(vmId, hostPort, { ...options, hostAddress });
    } catch (error) {
      if (!isSmolVMError(error, "VM_NOT_FOUND")) throw error;
    }
  };
  return { guestPort, hostAddress, hostPort, close, [Symbol.asyncDispose]: () => close() };
}
