// What people need to use a VM with their own ssh, scp or sftp.

import { Deadline, type WaitOptions } from "../../base/deadline.js";
import { SmolVMError } from "../../errors/smolvm-error.js";
import { findVm } from "../claim.js";
import type { VmContext } from "../context.js";
import { guestAddress } from "../guest-access.js";
import { ensurePorts } from "../ports/ensure-ports.js";
import { decodeSpec } from "../vm-spec.js";
import { knownHostsLine, readSshHostKey, sshClientFiles } from "./ssh-files.js";
import { SSH_USER } from "./ssh-target.js";

/** Longest wait for its port to be there again, where that is needed, in milliseconds. */
const PORTS_TIMEOUT_MS = 30_000;

/** How to connect to a VM's SSH server. */
export interface SshAccess {
  /** An address of this host; only this host reaches it. */
  readonly host: string;
  readonly port: number;
  readonly user: string;
  /** The VM's own key, the only one that is let in. Without a passphrase, mode 0600. */
  readonly privateKeyPath: string;
  /** The server's key as a line of known_hosts. */
  readonly knownHostsLine: string;
  /** A file with this line and no other. */
  readonly knownHostsPath: string;
  /**
   * For OpenSSH's `ssh`, `scp` and `sftp` alike, before anything else: port, user and keys, the pinned host key, and
   * nothing of the caller's own: neither configuration nor agent nor keys.
   *
   * @example
   * const { options, host } = await vm.ssh();
   * spawn("ssh", [...options, host, "uname", "-a"]);
   */
  readonly options: readonly string[];
}

/**
 * @throws {UNSUPPORTED} for a VM without the SSH channel.
 * @throws {VM_NOT_FOUND} @throws {INVALID_STATE} when the VM does not run, naming the call that helps.
 * @throws {PORT_IN_USE} {NETWORK_FAILED} {BUSY} when its port had to be opened again and could not be.
 * @throws {STORAGE_FAILED} {TIMEOUT} {ABORTED}
 */
export async function sshAccess(ctx: VmContext, vmId: string, options: WaitOptions = {}): Promise<SshAccess> {
  const row = findVm(ctx, vmId);
  const { ssh, directory } = decodeSpec(vmId, row.spec);
  if (ssh === undefined) {
    throw new SmolVMError("UNSUPPORTED", `Cannot give SSH access to VM "${vmId}": it has no SSH channel`, {
      details: { vmId, field: "commChannel" },
      hint: 'Create the VM with commChannel: "ssh".',
    });
  }
  await guestAddress(ctx, row, { vmId, purpose: "give SSH access to" });
  await ensurePorts(ctx, vmId, Deadline.from(options, PORTS_TIMEOUT_MS));
  const { publicKey } = await readSshHostKey(directory);
  const files = sshClientFiles(directory);
  return {
    ...{ host: ssh.hostAddress, port: ssh.hostPort, user: SSH_USER },
    ...files,
    knownHostsLine: knownHostsLine(ssh, publicKey),
    options: sshOptions(ssh.hostPort, files),
  };
}

/** Options that OpenSSH's ssh, scp and sftp all take. */
export function sshOptions(
  port: number,
  { privateKeyPath, knownHostsPath }: { readonly privateKeyPath: string; readonly knownHostsPath: string },
): readonly string[] {
  const options = {
    Port: String(port),
    User: SSH_USER,
    IdentityFile: sshPath(privateKeyPath),
    IdentitiesOnly: "yes",
    IdentityAgent: "none",
    CertificateFile: "none",
    PreferredAuthentications: "publickey",
    UserKnownHostsFile: sshPath(knownHostsPath),
    GlobalKnownHostsFile: "/dev/null",
    StrictHostKeyChecking: "yes",
    UpdateHostKeys: "no",
    CheckHostIP: "no",
    ForwardAgent: "no",
    ForwardX11: "no",
    // For a configuration that also has a `Host *`: nothing of it routes the connection, shares it or runs beside it.
    ProxyCommand: "none",
    ProxyJump: "none",
    ControlMaster: "no",
    ControlPath: "none",
    PermitLocalCommand: "no",
  };
  // No file of options: one for all hosts could forward an agent, or add keys and proxies.
  return ["-F", "none", ...Object.entries(options).flatMap(([name, value]) => ["-o", `${name}=${value}`])];
}

/** A path as ssh_config(5) has it: `%` begins a token, and a space ends the value unless it is quoted. */
function sshPath(path: string): string {
  return `"${path.replaceAll("%", "%%")}"`;
}
