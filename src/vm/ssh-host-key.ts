// The key by which a VM's SSH server is known: made with the VM, kept in its directory, never shared with a copy.

import { generateKeyPairSync, randomBytes } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileError } from "../errors/file-error.js";
import { SmolVMError } from "../errors/smolvm-error.js";
import type { SshHostKey } from "../guest/configure.js";

/** Names of the files in the VM's directory. */
const PRIVATE_KEY_FILE = "ssh_host_ed25519_key";
const PUBLIC_KEY_FILE = "ssh_host_ed25519_key.pub";
const KEY_TYPE = "ssh-ed25519";
/** Begins a key file (OpenSSH's PROTOCOL.key). */
const MAGIC = "openssh-key-v1\0";
/** Without encryption the private part is padded to a multiple of this, in bytes. */
const PADDING_BYTES = 8;
const LINE_CHARS = 70;

/** Makes the files of a new VM. @throws {STORAGE_FAILED} */
export async function writeSshHostKey(directory: string): Promise<void> {
  const key = makeSshHostKey();
  const files: [string, string, number][] = [
    [PRIVATE_KEY_FILE, key.privateKey, 0o600],
    [PUBLIC_KEY_FILE, `${key.publicKey}\n`, 0o644],
  ];
  for (const [name, text, mode] of files) {
    const path = join(directory, name);
    await writeFile(path, text, { mode, flag: "wx" }).catch((error: unknown) => {
      throw fileError("Write the SSH host key of a VM", path, error);
    });
  }
}

/** @throws {STORAGE_FAILED} */
export async function readSshHostKey(directory: string): Promise<SshHostKey> {
  const read = async (name: string) => {
    const path = join(directory, name);
    return readFile(path, "utf8").catch((error: unknown) => {
      throw fileError("Read the SSH host key of a VM", path, error);
    });
  };
  const [privateKey, publicKey] = await Promise.all([read(PRIVATE_KEY_FILE), read(PUBLIC_KEY_FILE)]);
  return { privateKey, publicKey: publicKey.trim() };
}

/** A new Ed25519 key in the forms that OpenSSH reads. */
export function makeSshHostKey(): SshHostKey {
  const { privateKey } = generateKeyPairSync("ed25519");
  const { d, x } = privateKey.export({ format: "jwk" });
  if (d === undefined || x === undefined) throw new SmolVMError("INTERNAL", "An Ed25519 key has no parts");
  const secret = Buffer.from(d, "base64url");
  const point = Buffer.from(x, "base64url");
  const publicBlob = Buffer.concat([field(KEY_TYPE), field(point)]);
  const check = randomBytes(4);
  const body = Buffer.concat([check, check, publicBlob, field(Buffer.concat([secret, point])), field("")]);
  const padding = Buffer.from(Array.from({ length: -body.length & (PADDING_BYTES - 1) }, (_, index) => index + 1));
  const one = Buffer.from([0, 0, 0, 1]);
  const file = Buffer.concat([
    Buffer.from(MAGIC),
    ...[field("none"), field("none"), field("")], // No cipher, no key derivation, no options of it.
    ...[one, field(publicBlob), field(Buffer.concat([body, padding]))],
  ]);
  const lines = file.toString("base64").match(new RegExp(`.{1,${LINE_CHARS}}`, "g")) ?? [];
  return {
    privateKey: ["-----BEGIN OPENSSH PRIVATE KEY-----", ...lines, "-----END OPENSSH PRIVATE KEY-----", ""].join("\n"),
    publicKey: `${KEY_TYPE} ${publicBlob.toString("base64")}`,
  };
}

/** A string as SSH writes it: its length in four bytes, then its bytes (RFC 4251, section 5). */
function field(value: string | Buffer): Buffer {
  const bytes = Buffer.from(value);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
}
