// Trees as bytes, right and wrong, for tests of transfers.

import { FieldWriter } from "../fields.js";
import { type EntryRecord, encodeContentHeader, encodeEnd, encodeEntry } from "../transfer/tree-record.js";

/** An entry, or a file's content: `[offset, bytes]`, or bytes as they are. */
export type TreePart = EntryRecord | readonly [number, string | Uint8Array] | Buffer;

export const MTIME_NS = 1_600_000_000_123_456_000n;

export function directory(path: string, mode = 0o755): EntryRecord {
  return { kind: "directory", path, mode, mtimeNs: MTIME_NS };
}

export function file(path: string, sizeBytes: number, mode = 0o644): EntryRecord {
  return { kind: "file", path, mode, mtimeNs: MTIME_NS, sizeBytes };
}

export function link(path: string, target: string): EntryRecord {
  return { kind: "link", path, mtimeNs: MTIME_NS, target };
}

export function leftOut(path: string, type: number): EntryRecord {
  return { kind: "leftOut", path, type };
}

/** The parts as they are sent, without an end. */
export function encodeParts(parts: readonly TreePart[]): Buffer {
  return Buffer.concat(parts.map(encodePart));
}

/** A whole tree with its end. */
export function encodeTree(parts: readonly TreePart[]): Buffer {
  return Buffer.concat([encodeParts(parts), encodeEnd(parts.length)]);
}

/** A record of any type with any payload. */
export function rawRecord(type: number, payload: Uint8Array | FieldWriter, claimedBytes?: number): Buffer {
  const bytes = payload instanceof FieldWriter ? payload.finish() : Buffer.from(payload);
  const header = Buffer.alloc(5);
  header.writeUInt8(type, 0);
  header.writeUInt32BE(claimedBytes ?? bytes.length, 1);
  return Buffer.concat([header, bytes]);
}

function encodePart(part: TreePart): Buffer {
  if (Buffer.isBuffer(part)) return part;
  if (!Array.isArray(part)) return encodeEntry(part as EntryRecord);
  const [offset, content] = part as readonly [number, string | Uint8Array];
  const bytes = Buffer.from(content as string);
  return Buffer.concat([encodeContentHeader(offset, bytes.length), bytes]);
}
