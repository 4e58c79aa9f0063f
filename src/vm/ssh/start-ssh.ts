// Brings up a guest's SSH server after the guest got its identity, in a copy anew.

import type { Deadline } from "../../base/deadline.js";
import { SmolVMError } from "../../errors/smolvm-error.js";
import type { GuestConnection } from "../../guest/connection.js";
import { GuestRefusal } from "../../guest/guest-refusal.js";
import { startGuestSshServer } from "../../guest/ssh-server.js";
import { readSshClientKey } from "./ssh-files.js";
import type { SshForward } from "./ssh-forward.js";

/** Nobody but the guest itself reaches it, and through the VM's host port this host. */
const SSH_GUEST_ADDRESS = "127.0.0.1";

/** Whose server, and what it needs. */
export interface SshStart {
  readonly vmId: string;
  /** Of the VM's own files. */
  readonly directory: string;
  readonly forward: SshForward;
}

/**
 * Resolves when the guest's SSH server listens.
 *
 * @throws {SSH_FAILED} when the image has none, or it does not start; `details.errno`.
 * @throws {STORAGE_FAILED} {TIMEOUT} {ABORTED} {CHANNEL_CLOSED} {PROTOCOL_ERROR}
 */
export async function startSsh(
  connection: GuestConnection,
  { vmId, directory, forward }: SshStart,
  deadline: Deadline,
): Promise<void> {
  const { publicKey } = await readSshClientKey(directory);
  try {
    const server = { address: SSH_GUEST_ADDRESS, port: forward.guestPort, clientKey: publicKey };
    await startGuestSshServer(connection, server, deadline);
  } catch (error) {
    if (!(error instanceof GuestRefusal)) throw error;
    const { errno, guestMessage } = error;
    throw new SmolVMError("SSH_FAILED", `Cannot start the SSH server of VM "${vmId}": ${guestMessage}`, {
      details: { vmId, errno },
      cause: error,
      hint: errno === "ENOENT" ? 'Use an image with OpenSSH\'s server, or commChannel: "agent".' : undefined,
    });
  }
}
