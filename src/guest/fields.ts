// Payloads that are lists of fields: tag, length, value (docs/guest-protocol.md, "Fields").

import { violation } from "./violation.js";

const FIELD_HEADER_BYTES = 5;

/** Collects the fields of a payload to send. */
export class FieldWriter {
  readonly #parts: Buffer[] = [];
  #sizeBytes = 0;

  bytes(tag: number, value: Uint8Array): this {
    const header = Buffer.allocUnsafe(FIELD_HEADER_BYTES);
    header.writeUInt8(tag, 0);
    header.writeUInt32BE(value.length, 1);
    this.#parts.push(header, Buffer.from(value.buffer, value.byteOffset, value.length));
    this.#sizeBytes += FIELD_HEADER_BYTES + value.length;
    return this;
  }

  text(tag: number, value: string | undefined): this {
    return value === undefined ? this : this.bytes(tag, Buffer.from(value, "utf8"));
  }

  texts(tag: number, values: readonly string[]): this {
    for (const value of values) this.text(tag, value);
    return this;
  }

  flag(tag: number, value: boolean | undefined): this {
    return value ? this.bytes(tag, Buffer.from([1])) : this;
  }

  u32(tag: number, value: number | undefined): this {
    if (value === undefined) return this;
    const buffer = Buffer.allocUnsafe(4);
    buffer.writeUInt32BE(value);
    return this.bytes(tag, buffer);
  }

  u64(tag: number, value: bigint | undefined): this {
    if (value === undefined) return this;
    const buffer = Buffer.allocUnsafe(8);
    buffer.writeBigUInt64BE(value);
    return this.bytes(tag, buffer);
  }

  /** Size of the payload so far, in bytes. */
  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  finish(): Buffer {
    return Buffer.concat(this.#parts, this.#sizeBytes);
  }
}

/** The fields of a received payload. Every read checks the value's size. */
export class FieldReader {
  readonly #fields = new Map<number, Buffer[]>();

  /** @throws {PROTOCOL_ERROR} when the payload is not a list of fields. */
  constructor(payload: Buffer) {
    let offset = 0;
    while (offset < payload.length) {
      if (payload.length - offset < FIELD_HEADER_BYTES) throw violation("a field's header is cut off");
      const tag = payload.readUInt8(offset);
      const sizeBytes = payload.readUInt32BE(offset + 1);
      offset += FIELD_HEADER_BYTES;
      if (sizeBytes > payload.length - offset) throw violation(`field ${tag} is cut off`);
      const values = this.#fields.get(tag);
      const value = payload.subarray(offset, offset + sizeBytes);
      if (values === undefined) this.#fields.set(tag, [value]);
      else values.push(value);
      offset += sizeBytes;
    }
  }

  bytes(tag: number): Buffer | undefined {
    return this.#fields.get(tag)?.[0];
  }

  allBytes(tag: number): readonly Buffer[] {
    return this.#fields.get(tag) ?? [];
  }

  text(tag: number): string | undefined {
    return this.bytes(tag)?.toString("utf8");
  }

  texts(tag: number): string[] {
    return (this.#fields.get(tag) ?? []).map((value) => value.toString("utf8"));
  }

  /** @throws {PROTOCOL_ERROR} when the value is not four bytes. */
  u32(tag: number): number | undefined {
    const value = this.bytes(tag);
    if (value === undefined) return undefined;
    if (value.length !== 4) throw violation(`field ${tag} has ${value.length} bytes, expected 4`);
    return value.readUInt32BE(0);
  }

  /** @throws {PROTOCOL_ERROR} when the value is not eight bytes. */
  u64(tag: number): bigint | undefined {
    const value = this.bytes(tag);
    if (value === undefined) return undefined;
    if (value.length !== 8) throw violation(`field ${tag} has ${value.length} bytes, expected 8`);
    return value.readBigUInt64BE(0);
  }
}
