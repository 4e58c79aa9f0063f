// Ed25519 keys in the forms that OpenSSH reads, made without OpenSSH.

import { generateKeyPairSync, randomBytes } from "node:crypto";
import { SmolVMError } from "../../errors/smolvm-error.js";

/** Both parts of a key. */
export interface OpenSshKey {
  /** As OpenSSH writes it to a file, without a passphrase. */
  readonly privateKey: string;
  /** One line, `ssh-ed25519 BASE64`. */
  readonly publicKey: string;
}

/** The only type of key that SmolVM makes. */
export const SSH_KEY_TYPE = "ssh-ed25519";
/** Begins a key file (OpenSSH's PROTOCOL.key). */
const MAGIC = "openssh-key-v1\0";
/** Without encryption the private part is padded to a multiple of this, in bytes. */
const PADDING_BYTES = 8;
const LINE_CHARS = 70;

/** A new key. */
export function makeOpenSshKey(): OpenSshKey {
  const { privateKey } = generateKeyPairSync("ed25519");
  const { d, x } = privateKey.export({ format: "jwk" });
  if (d === undefined || x === undefined) throw new SmolVMError("INTERNAL", "An Ed25519 key has no parts");
  const secret = Buffer.from(d, "base64url");
  const point = Buffer.from(x, "base64url");
  const publicBlob = Buffer.concat([field(SSH_KEY_TYPE), field(point)]);
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
    publicKey: `${SSH_KEY_TYPE} ${publicBlob.toString("base64")}`,
  };
}

/** A string as SSH writes it: its length in four bytes, then its bytes (RFC 4251, section 5). */
function field(value: string | Buffer): Buffer {
  const bytes = Buffer.from(value);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
}
