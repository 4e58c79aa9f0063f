// Turns the ports that a caller asked for into host ports; 0 or none means a free one. Each is listened on from then on, so
// that it is still free when the process that serves it takes it over.

import { invalidConfig } from "../errors/invalid-config.js";
import { isSmolVMError } from "../errors/smolvm-error.js";
import type { PortRow } from "../storage/port-store.js";
import { HeldPorts } from "./ports/held-ports.js";
import { DEFAULT_HOST_ADDRESS } from "./ports/port-options.js";
import { SSH_GUEST_PORT, type SshForward } from "./ssh/ssh-forward.js";
import type { CheckedConfig } from "./vm-config.js";

/** Host ports for a new VM. */
export interface ChosenPorts {
  /** All of them. */
  readonly rows: readonly PortRow[];
  /** That of its SSH server, which is among them. */
  readonly ssh: SshForward | undefined;
  /** They are listened on; to be closed by whoever has chosen them. */
  readonly held: HeldPorts;
}

/** What a new VM needs. */
export interface PortWishes {
  readonly asked: CheckedConfig["ports"];
  /** Whether there is to be a port for its SSH server, which only this host can reach. */
  readonly hasSsh: boolean;
}

/**
 * Listens on every port. Other VMs, which may be stopped, are kept away by the reservation that follows.
 *
 * @throws {PORT_IN_USE} when a program of the host listens on one of them.
 * @throws {INVALID_CONFIG} when the host has no such address.
 */
export async function choosePorts({ asked, hasSsh }: PortWishes): Promise<ChosenPorts> {
  const held = new HeldPorts();
  const hold = async ({ guest, host = 0, hostAddress = DEFAULT_HOST_ADDRESS }: PortWishes["asked"][number]) => {
    const { hostPort } = await held.hold({ hostAddress, hostPort: host });
    return { hostAddress, hostPort, guestPort: guest };
  };
  try {
    // Those with a number first: the kernel must not choose one of them for another.
    const order = asked.map((_, index) => index).sort((a, b) => Number(!asked[a]?.host) - Number(!asked[b]?.host));
    const rows: PortRow[] = [];
    for (const index of order) {
      const port = asked[index];
      if (port !== undefined) rows[index] = { ...(await hold(port)), origin: "config" };
    }
    const ssh = hasSsh ? await hold({ guest: SSH_GUEST_PORT }) : undefined;
    return { rows: ssh === undefined ? rows : [...rows, { ...ssh, origin: "ssh" }], ssh, held };
  } catch (error) {
    held.close();
    throw explained(error);
  }
}

function explained(error: unknown): unknown {
  if (!isSmolVMError(error, "NETWORK_FAILED")) return error;
  const { hostAddress, hostPort, reason } = error.details;
  const expected = `an address and port of this host that can be listened on (${reason})`;
  return invalidConfig({ field: "ports", value: `${hostAddress}:${hostPort}`, expected }, error);
}
