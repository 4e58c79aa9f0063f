// Gathers records into pieces that are worth a write, and sends them.

import type { CallExchange } from "../call-exchange.js";
import {
  CONTENT_LIMIT_BYTES,
  CONTENT_OFFSET_BYTES,
  type EntryRecord,
  encodeContentHeader,
  encodeEnd,
  encodeEntry,
  RECORD_HEADER_BYTES,
} from "./tree-record.js";

/** What is gathered before it is sent, in bytes. */
const BATCH_BYTES = 128 * 1024;
/** What comes before content in its record. */
export const CONTENT_HEADER_BYTES = RECORD_HEADER_BYTES + CONTENT_OFFSET_BYTES;
/** Content that is read and sent at once, in bytes: the most that a record may have. */
export const CONTENT_STEP_BYTES = CONTENT_LIMIT_BYTES;

export class RecordOutput {
  readonly #exchange: Pick<CallExchange, "write" | "isOpen">;
  readonly #onFlush: () => void;
  #parts: Uint8Array[] = [];
  #sizeBytes = 0;
  #records = 0;

  /** @param onFlush Called after each piece that was sent. */
  constructor(exchange: Pick<CallExchange, "write" | "isOpen">, onFlush: () => void) {
    this.#exchange = exchange;
    this.#onFlush = onFlush;
  }

  /** False when nothing more is taken: the answer says why. */
  get isOpen(): boolean {
    return this.#exchange.isOpen;
  }

  async entry(record: EntryRecord): Promise<void> {
    await this.#add([encodeEntry(record)]);
  }

  /** @param data 1 to 262 144 bytes, sent before this resolves or not changed afterwards. */
  async content(offset: number, data: Uint8Array): Promise<void> {
    await this.#add([encodeContentHeader(offset, data.length), data]);
  }

  /** Sends what was gathered, so that its buffers can be used again. */
  async flush(): Promise<void> {
    if (this.#sizeBytes === 0) return;
    const parts = this.#parts;
    const sizeBytes = this.#sizeBytes;
    this.#parts = [];
    this.#sizeBytes = 0;
    await this.#exchange.write(Buffer.concat(parts, sizeBytes));
    this.#onFlush();
  }

  /** Sends the end of the tree. */
  async end(): Promise<void> {
    const records = this.#records;
    await this.#add([encodeEnd(records)]);
    await this.flush();
  }

  #add(parts: readonly Uint8Array[]): Promise<void> | undefined {
    this.#records += 1;
    for (const part of parts) {
      this.#parts.push(part);
      this.#sizeBytes += part.length;
    }
    return this.#sizeBytes >= BATCH_BYTES ? this.flush() : undefined;
  }
}
