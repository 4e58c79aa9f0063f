// The ports of VMs: host ports that lead to their guests.

import type { WaitOptions } from "../../base/deadline.js";
import type { PortForward } from "../../storage/port-store.js";
import type { VmContext } from "../context.js";
import type { ManagedCalls } from "../vm-guests.js";
import { closePort, exposePort, listPorts } from "./change-ports.js";
import { type ClosePortOptions, checkClosePort, checkExpose, type ExposeOptions } from "./port-options.js";

export type { PortForward } from "../../storage/port-store.js";

export class VmPorts {
  readonly #ctx: VmContext;
  readonly #manager: ManagedCalls;

  /** @internal */
  constructor(ctx: VmContext, manager: ManagedCalls) {
    this.#ctx = ctx;
    this.#manager = manager;
  }

  /** Leads a host port to a port of a running VM's guest. @see exposePort for what it throws. */
  async expose(vmId: string, guestPort: number, options?: ExposeOptions): Promise<PortForward> {
    const asked = checkExpose(guestPort, options);
    return this.#manager.operate(options, (rest) => exposePort(this.#ctx, vmId, asked, rest));
  }

  /** Closes a host port. @see closePort for what it throws. @returns Whether it was one of the VM's. */
  async close(vmId: string, hostPort: number, options?: ClosePortOptions): Promise<boolean> {
    const port = checkClosePort(hostPort, options);
    return this.#manager.operate(options, (rest) => closePort(this.#ctx, vmId, port, rest));
  }

  /** The host ports of a VM, but for that of its SSH server. @see listPorts for what it throws. */
  async list(vmId: string, options?: WaitOptions): Promise<readonly PortForward[]> {
    return this.#manager.operate(options, (rest) => listPorts(this.#ctx, vmId, rest));
  }
}
