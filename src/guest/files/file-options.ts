// What callers of `vm.fs` may ask for, and what of it the protocol takes. Names and defaults are those of Node.js.

import type { WaitOptions } from "../../base/deadline.js";
import { invalidConfig } from "../../errors/invalid-config.js";

/** Largest mode, with the set-id and sticky bits. */
const MODE_LIMIT = 0o7777;

/** A mode as a number, or in octal digits, e.g. `0o644` or `"644"`. */
export type FileMode = number | string;

/** How an existing file is opened for writing: see open(2) and `fs` of Node.js. */
export type WriteFlag = "w" | "wx" | "a" | "ax" | "r+";

/** Bits of field 34 of `fs.write`. */
const FLAG_BITS: Readonly<Record<WriteFlag, number>> = { w: 0, a: 1, wx: 2, ax: 1 | 2, "r+": 4 | 8 };

export interface EncodingOptions {
  readonly encoding?: BufferEncoding | null | undefined;
}

export interface ReadFileOptions extends WaitOptions, EncodingOptions {
  /** Longest content that is read, in bytes; a longer file fails with `EFBIG`. Default 256 MiB. */
  readonly maxBytes?: number | undefined;
}

export interface WriteFileOptions extends WaitOptions, EncodingOptions {
  /** Mode of a file that is made; the guest's umask is 022. Default 0o666. */
  readonly mode?: FileMode | undefined;
  /** Default `"w"`; `"a"` for `appendFile`. */
  readonly flag?: WriteFlag | undefined;
}

export interface MkdirOptions extends WaitOptions {
  /** Makes missing parents too, and an existing directory is fine. Default false. */
  readonly recursive?: boolean | undefined;
  /** Default 0o777; the guest's umask is 022. */
  readonly mode?: FileMode | undefined;
}

export interface ReaddirOptions extends WaitOptions {
  /** Default `"utf8"`; with `"buffer"` names are bytes. */
  readonly encoding?: BufferEncoding | "buffer" | null | undefined;
  /** Gives entries that know their type in place of names. Default false. */
  readonly withFileTypes?: boolean | undefined;
  /** Lists directories below it too, with their paths. Default false. */
  readonly recursive?: boolean | undefined;
}

export interface RmOptions extends WaitOptions {
  /** Removes directories with all that is in them. Default false. */
  readonly recursive?: boolean | undefined;
  /** It need not be there. Default false. */
  readonly force?: boolean | undefined;
}

export interface ReadlinkOptions extends WaitOptions {
  readonly encoding?: BufferEncoding | "buffer" | null | undefined;
}

export interface ReadStreamOptions extends WaitOptions, EncodingOptions {
  /** First byte to read. Default 0. */
  readonly start?: number | undefined;
  /** Last byte to read, itself included. Default: to the end. */
  readonly end?: number | undefined;
  /** What is read ahead on the host, in bytes, beside 256 KiB under way. Default 64 KiB. */
  readonly highWaterMark?: number | undefined;
}

export interface WriteStreamOptions extends WaitOptions {
  /** Encoding of strings that are written. Default `"utf8"`. */
  readonly encoding?: BufferEncoding | null | undefined;
  /** Default `"w"`. */
  readonly flags?: WriteFlag | undefined;
  /** Default 0o666; the guest's umask is 022. */
  readonly mode?: FileMode | undefined;
  /** Where writing begins, in bytes. Most useful with flags `"r+"`. Default 0. */
  readonly start?: number | undefined;
  /** What is taken ahead of the guest, in bytes. Default 16 KiB. */
  readonly highWaterMark?: number | undefined;
}

/** @throws {INVALID_CONFIG} unless Node.js knows it. */
export function checkEncoding(encoding: string | null | undefined): BufferEncoding | undefined {
  if (encoding === undefined || encoding === null) return undefined;
  if (!Buffer.isEncoding(encoding)) {
    throw invalidConfig({ field: "encoding", value: encoding, expected: "an encoding of Node.js" });
  }
  return encoding;
}

/** Encoding of names: undefined for bytes. @throws {INVALID_CONFIG} */
export function nameEncoding(encoding: string | null | undefined): BufferEncoding | undefined {
  return encoding === "buffer" ? undefined : (checkEncoding(encoding) ?? "utf8");
}

/** @throws {INVALID_CONFIG} */
export function parseMode(mode: FileMode | undefined): number | undefined {
  if (mode === undefined) return undefined;
  const isOctal = typeof mode === "string" && /^(0o)?[0-7]{1,5}$/.test(mode);
  const value = isOctal ? Number.parseInt(mode.replace("0o", ""), 8) : mode;
  return wholeNumber({ field: "mode", value, largest: MODE_LIMIT, expected: "a number or octal digits up to 0o7777" });
}

/** @throws {INVALID_CONFIG} */
export function flagBits(flag: WriteFlag | undefined, field: string): number {
  if (flag === undefined) return FLAG_BITS.w;
  if (typeof flag === "string" && Object.hasOwn(FLAG_BITS, flag)) return FLAG_BITS[flag];
  throw invalidConfig({ field, value: flag, expected: `one of ${Object.keys(FLAG_BITS).join(", ")}` });
}

/** @throws {INVALID_CONFIG} unless it is left out or a whole number from 0. */
export function checkPosition(field: string, value: number | undefined): number | undefined {
  if (value === undefined) return undefined;
  return wholeNumber({ field, value, largest: Number.MAX_SAFE_INTEGER, expected: "a whole number of bytes" });
}

function wholeNumber(checked: {
  readonly field: string;
  readonly value: unknown;
  readonly largest: number;
  readonly expected: string;
}): number {
  const { field, value, largest, expected } = checked;
  if (typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= largest) return value;
  throw invalidConfig({ field, value, expected });
}
