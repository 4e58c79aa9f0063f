// Turns the ports that a caller asked for into host ports; 0 or none means a free one.

import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { invalidConfig } from "../errors/invalid-config.js";
import { SmolVMError } from "../errors/smolvm-error.js";
import type { PortForward } from "../storage/port-store.js";
import { SSH_GUEST_PORT, type SshForward } from "./ssh/ssh-forward.js";
import type { CheckedConfig } from "./vm-config.js";

/** Where forwarded ports listen unless asked otherwise. */
const DEFAULT_HOST_ADDRESS = "127.0.0.1";

/**
 * Finds every port free at this moment. Other VMs are kept away by the reservation that follows.
 *
 * @throws {PORT_IN_USE} when a program of the host listens on one of them.
 * @throws {INVALID_CONFIG} when the host has no such address.
 */
export async function choosePorts(asked: CheckedConfig["ports"]): Promise<PortForward[]> {
  const chosen: PortForward[] = [];
  for (const { guest, host, hostAddress = DEFAULT_HOST_ADDRESS } of asked) {
    chosen.push({ hostAddress, hostPort: await bindOnce(hostAddress, host ?? 0), guestPort: guest });
  }
  return chosen;
}

/** A host port for a VM's SSH server; only this host can reach it. */
export async function chooseSshPort(): Promise<SshForward> {
  const hostPort = await bindOnce(DEFAULT_HOST_ADDRESS, 0);
  return { hostAddress: DEFAULT_HOST_ADDRESS, hostPort, guestPort: SSH_GUEST_PORT };
}

/** @returns The port that could be bound; `port` itself unless it is 0. */
async function bindOnce(hostAddress: string, port: number): Promise<number> {
  const server = createServer();
  try {
    server.listen({ host: hostAddress, port, exclusive: true });
    await once(server, "listening");
    return (server.address() as AddressInfo).port;
  } catch (error) {
    const reason = (error as NodeJS.ErrnoException).code;
    if (reason !== "EADDRINUSE") {
      const expected = `an address and port of this host that can be listened on (${reason})`;
      throw invalidConfig({ field: "ports", value: `${hostAddress}:${port}`, expected }, error);
    }
    throw new SmolVMError("PORT_IN_USE", `Cannot forward ${hostAddress}:${port}: something listens on it`, {
      details: { hostAddress, hostPort: port, reason },
      cause: error,
    });
  } finally {
    server.close();
  }
}
