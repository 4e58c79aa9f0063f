// What is needed to connect to a VM's SSH server.

import { readSshClientKey, readSshHostKey } from "./ssh-files.js";
import type { SshForward } from "./ssh-forward.js";

/** The only user that is let in. */
export const SSH_USER = "root";

/** Whom to connect to, as whom, and how either proves who it is. */
export interface SshTarget {
  readonly vmId: string;
  readonly host: string;
  readonly port: number;
  readonly user: string;
  /** As OpenSSH writes it to a file. */
  readonly privateKey: string;
  /** The server's, one line, `ssh-ed25519 BASE64`. No other is accepted. */
  readonly hostKey: string;
}

/** @throws {STORAGE_FAILED} */
export async function readSshTarget(vmId: string, directory: string, forward: SshForward): Promise<SshTarget> {
  const [client, host] = await Promise.all([readSshClientKey(directory), readSshHostKey(directory)]);
  return {
    ...{ vmId, host: forward.hostAddress, port: forward.hostPort, user: SSH_USER },
    ...{ privateKey: client.privateKey, hostKey: host.publicKey },
  };
}
