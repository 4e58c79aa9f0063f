// Keeps the first bytes of an output, up to a limit, and forgets the rest.

import { StringDecoder } from "node:string_decoder";

export class OutputBuffer {
  readonly #limitBytes: number;
  readonly #chunks: Buffer[] = [];
  #sizeBytes = 0;
  #isTruncated = false;

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  push(data: Buffer): void {
    const roomBytes = this.#limitBytes - this.#sizeBytes;
    if (data.length > roomBytes) this.#isTruncated = true;
    if (roomBytes === 0) return;
    const kept = data.subarray(0, roomBytes);
    this.#chunks.push(kept);
    this.#sizeBytes += kept.length;
  }

  get isTruncated(): boolean {
    return this.#isTruncated;
  }

  /** What was kept as UTF-8, without a character that the limit cut in half. */
  toString(): string {
    const bytes = Buffer.concat(this.#chunks, this.#sizeBytes);
    return this.#isTruncated ? new StringDecoder("utf8").write(bytes) : bytes.toString("utf8");
  }
}
