// Collects data in one block that grows: a guest that sends single bytes must not cost an object for each of them.

/** Room made at first, in bytes. */
const FIRST_ROOM_BYTES = 64 * 1024;

export class ByteCollector {
  readonly #limitBytes: number;
  #block: Buffer = Buffer.alloc(0);
  #sizeBytes = 0;

  /** @param limitBytes Most that will ever be pushed: room is never made for more. */
  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** @param data No more than the limit leaves. */
  push(data: Buffer): void {
    const neededBytes = this.#sizeBytes + data.length;
    if (neededBytes > this.#block.length) this.#grow(neededBytes);
    data.copy(this.#block, this.#sizeBytes);
    this.#sizeBytes = neededBytes;
  }

  /** All that came, without a copy where the block is nearly full. */
  finish(): Buffer {
    const bytes = this.#block.subarray(0, this.#sizeBytes);
    return this.#sizeBytes * 2 < this.#block.length ? Buffer.from(bytes) : bytes;
  }

  #grow(neededBytes: number): void {
    const roomBytes = Math.max(FIRST_ROOM_BYTES, 2 * this.#block.length, neededBytes);
    const block = Buffer.allocUnsafe(Math.max(neededBytes, Math.min(roomBytes, this.#limitBytes)));
    this.#block.copy(block, 0, 0, this.#sizeBytes);
    this.#block = block;
  }
}
