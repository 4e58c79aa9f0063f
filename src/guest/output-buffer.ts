// Keeps the first bytes of an output, up to a limit, and forgets the rest.

import { StringDecoder } from "node:string_decoder";

/** Room made at first, in bytes. */
const FIRST_ROOM_BYTES = 4096;

export class OutputBuffer {
  readonly #limitBytes: number;
  /** One block that grows: a guest that sends single bytes must not cost an object for each of them. */
  #block = Buffer.alloc(0);
  #sizeBytes = 0;
  #isTruncated = false;

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  push(data: Buffer): void {
    const roomBytes = this.#limitBytes - this.#sizeBytes;
    if (data.length > roomBytes) this.#isTruncated = true;
    const kept = data.subarray(0, roomBytes);
    this.#grow(this.#sizeBytes + kept.length);
    kept.copy(this.#block, this.#sizeBytes);
    this.#sizeBytes += kept.length;
  }

  get isTruncated(): boolean {
    return this.#isTruncated;
  }

  /** What was kept as UTF-8, without a character that the limit cut in half, here or in the agent. */
  toString(): string {
    const bytes = this.#block.subarray(0, this.#sizeBytes);
    return this.#sizeBytes === this.#limitBytes ? new StringDecoder("utf8").write(bytes) : bytes.toString("utf8");
  }

  #grow(neededBytes: number): void {
    if (neededBytes <= this.#block.length) return;
    const doubledBytes = Math.max(FIRST_ROOM_BYTES, 2 * this.#block.length, neededBytes);
    const block = Buffer.allocUnsafe(Math.min(doubledBytes, this.#limitBytes));
    this.#block.copy(block, 0, 0, this.#sizeBytes);
    this.#block = block;
  }
}
