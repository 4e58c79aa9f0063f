// Asks the guest to start its image's SSH server.

import type { Deadline } from "../base/deadline.js";
import type { GuestConnection } from "./connection.js";
import { FieldWriter } from "./fields.js";

/** The agent's socket in the guest, for SSH's forwarding to a socket. */
export const AGENT_SOCKET_PATH = "/run/smolvm/agent.sock";

/** Where it is to listen, and whom it is to let in. */
export interface SshServerSettings {
  /** An address of the guest, without prefix length. */
  readonly address: string;
  readonly port: number;
  /** One line, `ssh-ed25519 BASE64`: the only key that is let in, as root. */
  readonly clientKey: string;
}

/**
 * Starts the image's SSH server with the guest's host key; one that this has started before ends with its sessions. It
 * listens when this resolves.
 *
 * @throws {INTERNAL} as a `GuestRefusal`: `ENOENT` when the image has no SSH server.
 * @throws {TIMEOUT} @throws {ABORTED} @throws {CHANNEL_CLOSED} @throws {PROTOCOL_ERROR}
 */
export async function startGuestSshServer(
  connection: GuestConnection,
  { address, port, clientKey }: SshServerSettings,
  deadline: Deadline,
): Promise<void> {
  await connection.call("ssh", new FieldWriter().text(10, address).u32(11, port).text(12, clientKey), deadline);
}
