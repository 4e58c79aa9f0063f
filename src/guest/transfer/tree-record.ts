// Records of a tree (docs/guest-protocol.md, "Files"): their types, limits, and how they are written.

import { FieldWriter } from "../fields.js";

export const RECORD_TYPE = { directory: 1, file: 2, content: 3, link: 4, leftOut: 5, end: 6 } as const;

/** Type u8 and length u32 before a payload. */
export const RECORD_HEADER_BYTES = 5;
/** Offset u64 before content. */
export const CONTENT_OFFSET_BYTES = 8;
/** Most content in one record, in bytes. */
export const CONTENT_LIMIT_BYTES = 262_144;
/** Longest payload of any other record, in bytes: two paths and some numbers, with room for fields to come. */
export const META_LIMIT_BYTES = 16 * 1024;
/** Longest path of a tree and longest target of a link, in bytes. */
export const TREE_PATH_LIMIT_BYTES = 4095;
/** Most directories inside one another: each of them is held open on the way. */
export const DEPTH_LIMIT = 512;
/** Permission bits of a mode: all that a tree may have. */
export const PERMISSION_BITS = 0o777;

const TIME_BITS = 64;

/** A path below the root of a tree, each byte as one character (latin1); empty for the root itself. */
export type TreePath = string;

interface Entry {
  readonly path: TreePath;
}

/** `mtimeNs`: nanoseconds since 1970. */
export interface DirectoryRecord extends Entry {
  readonly kind: "directory";
  readonly mode: number;
  readonly mtimeNs: bigint;
}

export interface FileRecord extends Entry {
  readonly kind: "file";
  readonly mode: number;
  readonly mtimeNs: bigint;
  readonly sizeBytes: number;
}

export interface LinkRecord extends Entry {
  readonly kind: "link";
  readonly mtimeNs: bigint;
  /** Bytes as characters, as a path. */
  readonly target: string;
}

export interface LeftOutRecord extends Entry {
  readonly kind: "leftOut";
  /** Its `DT_*`. */
  readonly type: number;
}

export interface EndRecord {
  readonly kind: "end";
}

/** A record that names an entry of a tree. */
export type EntryRecord = DirectoryRecord | FileRecord | LinkRecord | LeftOutRecord;

/** The bytes of a record that names an entry. */
export function encodeEntry(record: EntryRecord): Buffer {
  const fields = new FieldWriter().bytes(1, Buffer.from(record.path, "latin1"));
  if (record.kind === "leftOut") {
    return withHeader(RECORD_TYPE.leftOut, fields.bytes(6, Buffer.from([record.type])).finish());
  }
  const mtime = BigInt.asUintN(TIME_BITS, record.mtimeNs);
  if (record.kind === "link") {
    return withHeader(RECORD_TYPE.link, fields.u64(3, mtime).bytes(5, Buffer.from(record.target, "latin1")).finish());
  }
  fields.u32(2, record.mode).u64(3, mtime);
  if (record.kind === "directory") return withHeader(RECORD_TYPE.directory, fields.finish());
  return withHeader(RECORD_TYPE.file, fields.u64(4, BigInt(record.sizeBytes)).finish());
}

/** What comes before `sizeBytes` bytes of content. */
export function encodeContentHeader(offset: number, sizeBytes: number): Buffer {
  const header = Buffer.allocUnsafe(RECORD_HEADER_BYTES + CONTENT_OFFSET_BYTES);
  header.writeUInt8(RECORD_TYPE.content, 0);
  header.writeUInt32BE(CONTENT_OFFSET_BYTES + sizeBytes, 1);
  header.writeBigUInt64BE(BigInt(offset), RECORD_HEADER_BYTES);
  return header;
}

/** @param records How many came before. */
export function encodeEnd(records: number): Buffer {
  return withHeader(RECORD_TYPE.end, new FieldWriter().u64(7, BigInt(records)).finish());
}

function withHeader(type: number, payload: Buffer): Buffer {
  const header = Buffer.allocUnsafe(RECORD_HEADER_BYTES);
  header.writeUInt8(type, 0);
  header.writeUInt32BE(payload.length, 1);
  return Buffer.concat([header, payload]);
}
