// The ports of a VM that its user asked for: all but that of its SSH server.

import type { PortForward } from "../../storage/port-store.js";
import type { VmContext } from "../context.js";

/** As recorded, in the order in which they came. */
export function userPorts(ctx: VmContext, vmId: string): readonly PortForward[] {
  return ctx.store.ports
    .list(vmId)
    .filter(({ origin }) => origin !== "ssh")
    .map(({ hostAddress, hostPort, guestPort }) => ({ guestPort, hostAddress, hostPort }));
}
