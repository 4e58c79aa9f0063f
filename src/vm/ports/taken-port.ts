// Whose a port of the host is that somebody asked for.

import { isSmolVMError, SmolVMError } from "../../errors/smolvm-error.js";
import type { HostPort } from "../../storage/port-store.js";
import type { VmContext } from "../context.js";

const ANY_ADDRESS = "0.0.0.0";

/** The error, or a better one for a port that is taken by a VM of this state directory: it says by which. */
export function explainTaken(ctx: VmContext, { hostAddress, hostPort }: HostPort, error: unknown): unknown {
  if (!isSmolVMError(error, "PORT_IN_USE")) return error;
  const clashes = (other: HostPort) =>
    other.hostPort === hostPort &&
    (hostAddress === ANY_ADDRESS || [hostAddress, ANY_ADDRESS].includes(other.hostAddress));
  for (const { id } of ctx.store.vms.list()) {
    const port = ctx.store.ports.list(id).find(clashes);
    if (port === undefined) continue;
    const whose = `it leads to port ${port.guestPort} of VM "${id}"`;
    return new SmolVMError("PORT_IN_USE", `Cannot forward ${hostAddress}:${hostPort}: ${whose}`, {
      details: { hostAddress, hostPort, holder: id, guestPort: port.guestPort },
      cause: error,
    });
  }
  return error;
}
