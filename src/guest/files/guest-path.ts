// Paths of the guest as the protocol takes them. What cannot be sent is refused before the guest hears of it.

import { invalidConfig } from "../../errors/invalid-config.js";
import { PREAMBLE } from "../frame.js";

/** Longest path, in bytes (`PATH_MAX` of Linux without its NUL). */
export const PATH_LIMIT_BYTES = 4095;

const SLASH = 0x2f;

/** A path in the guest: absolute; a `Uint8Array` where it is not UTF-8. */
export type GuestPath = string | Uint8Array;

/**
 * The bytes of a path.
 *
 * @param field What the caller calls it, for the error.
 * @throws {INVALID_CONFIG} unless it is absolute, at most 4095 bytes long, without NUL and without the protocol's preamble.
 */
export function guestPath(path: GuestPath, field = "path"): Buffer {
  const bytes = pathBytes(path, field);
  if (bytes[0] !== SLASH) throw invalidConfig({ field, value: shown(path), expected: "an absolute path" });
  return bytes;
}

/**
 * What a symbolic link is to hold: a path that need not be absolute.
 *
 * @throws {INVALID_CONFIG} when it is empty, too long, or has NUL or the protocol's preamble in it.
 */
export function linkTarget(target: GuestPath): Buffer {
  return pathBytes(target, "target");
}

/** A path for messages and for the fields of an error. */
export function shown(path: unknown): string {
  if (path instanceof Uint8Array) return Buffer.from(path.buffer, path.byteOffset, path.length).toString("utf8");
  return String(path);
}

function pathBytes(path: GuestPath, field: string): Buffer {
  if (typeof path !== "string" && !(path instanceof Uint8Array)) {
    throw invalidConfig({ field, value: path, expected: "a string or Uint8Array" });
  }
  const bytes = Buffer.from(path as string);
  const refuse = (expected: string) => invalidConfig({ field, value: shown(path), expected });
  if (bytes.length === 0) throw refuse("a path that is not empty");
  if (bytes.length > PATH_LIMIT_BYTES) throw refuse(`at most ${PATH_LIMIT_BYTES} bytes`);
  if (bytes.includes(0)) throw refuse("a path without NUL");
  // With its first byte it could also begin in the length before it, which ends with that byte for 255 bytes (0xff).
  if (bytes.includes(PREAMBLE.subarray(1))) throw refuse("a path without the bytes that begin a connection");
  return bytes;
}
