// The files of a VM that have to do with SSH: the key by which its server is known, and, where it has the SSH channel,
// the one key that the server lets in, and a line for known_hosts. Made with the VM, in its directory, never shared with
// a copy.

import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileError } from "../../errors/file-error.js";
import { makeOpenSshKey, type OpenSshKey } from "./openssh-key.js";
import type { SshForward } from "./ssh-forward.js";

/** Names of the private keys; the public ones end in `.pub`. */
const HOST_KEY_FILE = "ssh_host_ed25519_key";
const CLIENT_KEY_FILE = "ssh_client_ed25519_key";
const KNOWN_HOSTS_FILE = "ssh_known_hosts";

/** Absolute paths of what an SSH client needs, in a VM's directory. */
export function sshClientFiles(directory: string) {
  return { privateKeyPath: join(directory, CLIENT_KEY_FILE), knownHostsPath: join(directory, KNOWN_HOSTS_FILE) };
}

/**
 * Makes the files of a new VM.
 *
 * @param forward Where its SSH server can be reached; `undefined` for a VM without the SSH channel.
 * @throws {STORAGE_FAILED}
 */
export async function writeSshFiles(directory: string, forward: SshForward | undefined): Promise<void> {
  const hostKey = makeOpenSshKey();
  await writeKey(directory, HOST_KEY_FILE, hostKey);
  if (forward === undefined) return;
  await writeKey(directory, CLIENT_KEY_FILE, makeOpenSshKey());
  await writeNew(directory, KNOWN_HOSTS_FILE, `${knownHostsLine(forward, hostKey.publicKey)}\n`, 0o644);
}

/** The key by which the VM's server is known. @throws {STORAGE_FAILED} */
export function readSshHostKey(directory: string): Promise<OpenSshKey> {
  return readKey(directory, HOST_KEY_FILE);
}

/** The key that the VM's server lets in. @throws {STORAGE_FAILED} */
export function readSshClientKey(directory: string): Promise<OpenSshKey> {
  return readKey(directory, CLIENT_KEY_FILE);
}

/** A server's key as a line of known_hosts (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"). */
export function knownHostsLine({ hostAddress, hostPort }: SshForward, publicKey: string): string {
  return `[${hostAddress}]:${hostPort} ${publicKey}`;
}

async function writeKey(directory: string, name: string, key: OpenSshKey): Promise<void> {
  await writeNew(directory, name, key.privateKey, 0o600);
  await writeNew(directory, `${name}.pub`, `${key.publicKey}\n`, 0o644);
}

async function writeNew(directory: string, name: string, text: string, mode: number): Promise<void> {
  const path = join(directory, name);
  await writeFile(path, text, { mode, flag: "wx" }).catch((error: unknown) => {
    throw fileError("Write an SSH file of a VM", path, error);
  });
}

async function readKey(directory: string, name: string): Promise<OpenSshKey> {
  const read = (path: string) =>
    readFile(path, "utf8").catch((error: unknown) => {
      throw fileError("Read an SSH key of a VM", path, error);
    });
  const path = join(directory, name);
  const [privateKey, publicKey] = await Promise.all([read(path), read(`${path}.pub`)]);
  return { privateKey, publicKey: publicKey.trim() };
}
