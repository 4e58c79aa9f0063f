// Turns bytes into records of a tree, trusting none of them. Pure: it knows lengths and fields, tree-rules.ts what they may
// say. It never holds more than one small record, whatever its length claims to be.

import { FieldReader } from "../fields.js";
import { brokenTree } from "./tree-failure.js";
import {
  CONTENT_LIMIT_BYTES,
  CONTENT_OFFSET_BYTES,
  type EndRecord,
  type EntryRecord,
  META_LIMIT_BYTES,
  RECORD_HEADER_BYTES,
  RECORD_TYPE,
} from "./tree-record.js";

/** A part of a content record, as it came: the parts of one record follow each other without a gap. */
export interface ContentPiece {
  readonly kind: "content";
  readonly offset: number;
  /** Of the chunk that was pushed, not a copy. */
  readonly data: Buffer;
}

export type DecodedRecord = EntryRecord | ContentPiece | EndRecord;

const TIME_BITS = 64;
const NO_BYTES = Buffer.alloc(0);

export class TreeDecoder {
  /** The header, offset or payload that is being gathered, and how much of it is there. */
  #gathered: Buffer = Buffer.allocUnsafe(RECORD_HEADER_BYTES);
  #gatheredBytes = 0;
  #state: "header" | "offset" | "content" | "fields" | "over" = "header";
  #type = 0;
  /** Of the content record: where its rest goes and how much that is. */
  #offset = 0;
  #leftBytes = 0;
  #records = 0;

  /** Whether the end of the tree has come. */
  get isComplete(): boolean {
    return this.#state === "over";
  }

  /**
   * Takes the next bytes and gives what they complete.
   *
   * @throws {TRANSFER_FAILED} when they are no tree; the decoder is of no use after that.
   */
  *push(chunk: Buffer): Generator<DecodedRecord> {
    let rest = chunk;
    while (rest.length > 0) {
      if (this.#state === "over") throw brokenTree("there is something after its end");
      if (this.#state === "content") {
        const data = rest.subarray(0, this.#leftBytes);
        rest = rest.subarray(data.length);
        yield this.#piece(data);
        continue;
      }
      rest = this.#gather(rest);
      if (this.#gatheredBytes < this.#gathered.length) return;
      const record = this.#advance();
      if (record !== undefined) yield record;
    }
  }

  #piece(data: Buffer): ContentPiece {
    const piece: ContentPiece = { kind: "content", offset: this.#offset, data };
    this.#offset += data.length;
    this.#leftBytes -= data.length;
    if (this.#leftBytes === 0) this.#expect("header", RECORD_HEADER_BYTES);
    return piece;
  }

  /** @returns What is left of the bytes. */
  #gather(bytes: Buffer): Buffer {
    const taken = bytes.subarray(0, this.#gathered.length - this.#gatheredBytes);
    taken.copy(this.#gathered, this.#gatheredBytes);
    this.#gatheredBytes += taken.length;
    return bytes.subarray(taken.length);
  }

  #expect(state: "header" | "offset" | "fields", sizeBytes: number): void {
    this.#state = state;
    this.#gathered = Buffer.allocUnsafe(sizeBytes);
    this.#gatheredBytes = 0;
  }

  /** What was gathered is whole. */
  #advance(): DecodedRecord | undefined {
    const bytes = this.#gathered;
    if (this.#state === "header") return this.#begin(bytes.readUInt8(0), bytes.readUInt32BE(1));
    if (this.#state === "offset") {
      this.#offset = exact(bytes.readBigUInt64BE(0), "an offset");
      this.#state = "content";
      this.#gathered = NO_BYTES;
      return undefined;
    }
    this.#expect("header", RECORD_HEADER_BYTES);
    return this.#read(bytes);
  }

  #begin(type: number, sizeBytes: number): undefined {
    if (type < RECORD_TYPE.directory || type > RECORD_TYPE.end) throw brokenTree(`a record of type ${type}`);
    const isContent = type === RECORD_TYPE.content;
    const limitBytes = isContent ? CONTENT_OFFSET_BYTES + CONTENT_LIMIT_BYTES : META_LIMIT_BYTES;
    const least = isContent ? CONTENT_OFFSET_BYTES + 1 : 1;
    if (sizeBytes > limitBytes || sizeBytes < least)
      throw brokenTree(`a record of type ${type} with ${sizeBytes} bytes`);
    this.#type = type;
    if (type !== RECORD_TYPE.end) this.#records += 1;
    if (!isContent) {
      this.#expect("fields", sizeBytes);
      return;
    }
    this.#leftBytes = sizeBytes - CONTENT_OFFSET_BYTES;
    this.#expect("offset", CONTENT_OFFSET_BYTES);
  }

  #read(payload: Buffer): DecodedRecord {
    const fields = fieldsOf(payload);
    if (this.#type === RECORD_TYPE.end) {
      const records = present(fields.u64(7), "the end without a count");
      if (records !== BigInt(this.#records)) throw brokenTree(`its end counts ${records} records of ${this.#records}`);
      this.#state = "over";
      return { kind: "end" };
    }
    const path = present(fields.bytes(1), "a record without a path").toString("latin1");
    if (this.#type === RECORD_TYPE.leftOut) {
      const type = present(fields.bytes(6), "a record without a type");
      return { kind: "leftOut", path, type: present(type[0], "an empty type") };
    }
    const mtimeNs = BigInt.asIntN(TIME_BITS, present(fields.u64(3), "a record without a time"));
    if (this.#type === RECORD_TYPE.link) {
      return {
        kind: "link",
        path,
        mtimeNs,
        target: present(fields.bytes(5), "a link without a target").toString("latin1"),
      };
    }
    const mode = present(fields.u32(2), "a record without a mode");
    if (this.#type === RECORD_TYPE.directory) return { kind: "directory", path, mode, mtimeNs };
    const sizeBytes = exact(present(fields.u64(4), "a file without a size"), "a size");
    return { kind: "file", path, mode, mtimeNs, sizeBytes };
  }
}

function fieldsOf(payload: Buffer): SafeFields {
  return new SafeFields(payload);
}

/** Fields whose faults are those of the tree, not of the connection. */
class SafeFields {
  readonly #fields: FieldReader;

  constructor(payload: Buffer) {
    this.#fields = asBroken(() => new FieldReader(payload));
  }

  bytes(tag: number): Buffer | undefined {
    return this.#fields.bytes(tag);
  }

  u32(tag: number): number | undefined {
    return asBroken(() => this.#fields.u32(tag));
  }

  u64(tag: number): bigint | undefined {
    return asBroken(() => this.#fields.u64(tag));
  }
}

function asBroken<T>(read: () => T): T {
  try {
    return read();
  } catch {
    throw brokenTree("a record with malformed fields");
  }
}

function present<T>(value: T | undefined, otherwise: string): T {
  if (value === undefined) throw brokenTree(otherwise);
  return value;
}

/** A number of bytes that can be calculated with. */
function exact(value: bigint, what: string): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw brokenTree(`${what} of ${value}`);
  return Number(value);
}
