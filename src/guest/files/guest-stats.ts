// What `stat` says about a file of the guest, in the shape of Node.js.

import type { FieldReader } from "../fields.js";
import { violation } from "../violation.js";
import { FileKind, typeOfMode } from "./dirent-type.js";

const NS_PER_MS = 1_000_000n;
const TIME_BITS = 64;

/**
 * It does not say that it implements `Stats`: newer `@types/node` add fields, and then programs could not be compiled.
 * Numbers have the units of Node.js: times in milliseconds since 1970, `blocks` of 512 bytes.
 */
export class GuestStats extends FileKind {
  readonly dev: number;
  readonly ino: number;
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  readonly rdev: number;
  readonly size: number;
  readonly blksize: number;
  readonly blocks: number;
  readonly atimeMs: number;
  readonly mtimeMs: number;
  readonly ctimeMs: number;

  /** @throws {PROTOCOL_ERROR} when a field is missing or has an impossible value. */
  constructor(fields: FieldReader) {
    super();
    this.mode = u32(fields, 20);
    this.size = exact(fields, 21);
    this.mtimeMs = timeMs(fields, 22);
    this.atimeMs = timeMs(fields, 27);
    this.ctimeMs = timeMs(fields, 28);
    this.uid = u32(fields, 23);
    this.gid = u32(fields, 24);
    this.ino = Number(u64(fields, 25));
    this.nlink = u32(fields, 26);
    this.dev = Number(u64(fields, 29));
    this.blocks = exact(fields, 30);
    this.blksize = u32(fields, 31);
    this.rdev = Number(u64(fields, 32));
  }

  get atime(): Date {
    return new Date(this.atimeMs);
  }

  get mtime(): Date {
    return new Date(this.mtimeMs);
  }

  get ctime(): Date {
    return new Date(this.ctimeMs);
  }

  /** The guest does not tell it: `ctimeMs`, as Node.js does where a file system does not know it. */
  get birthtimeMs(): number {
    return this.ctimeMs;
  }

  get birthtime(): Date {
    return this.ctime;
  }

  protected override get type(): number {
    return typeOfMode(this.mode);
  }
}

function u32(fields: FieldReader, tag: number): number {
  const value = fields.u32(tag);
  if (value === undefined) throw missing(tag);
  return value;
}

function u64(fields: FieldReader, tag: number): bigint {
  const value = fields.u64(tag);
  if (value === undefined) throw missing(tag);
  return value;
}

/** A number of bytes or blocks, which a caller will calculate with. */
function exact(fields: FieldReader, tag: number): number {
  const value = Number(u64(fields, tag));
  if (!Number.isSafeInteger(value)) throw violation(`field ${tag} of fs.stat is ${value}`);
  return value;
}

function timeMs(fields: FieldReader, tag: number): number {
  const ns = BigInt.asIntN(TIME_BITS, u64(fields, tag));
  return Number(ns / NS_PER_MS) + Number(ns % NS_PER_MS) / Number(NS_PER_MS);
}

function missing(tag: number) {
  return violation(`fs.stat without field ${tag}`);
}
