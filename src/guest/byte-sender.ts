// Sends one channel of a stream to the guest, never more than it has given credit for.

import { deferred } from "../base/deferred.js";
import { CHANNEL, type Frame, INITIAL_CREDIT_BYTES } from "./frame.js";
import { nextChunkBytes } from "./frame-writer.js";
import type { StreamTransport } from "./stream-transport.js";
import { violation } from "./violation.js";

/** Most credit an agent may have granted us at once, in bytes: more is nonsense. */
const CREDIT_LIMIT_BYTES = 2 ** 31;

export class ByteSender {
  readonly #id: number;
  readonly #transport: StreamTransport;
  readonly #closed = deferred<void>();
  #creditBytes = INITIAL_CREDIT_BYTES;
  #isOpen = true;
  #hasEnded = false;
  /** Writers that wait for credit, the first come first. */
  readonly #waiting: (() => void)[] = [];

  constructor(id: number, transport: StreamTransport) {
    this.#id = id;
    this.#transport = transport;
  }

  /** False once nobody takes anything more. */
  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** Resolves when {@link isOpen} becomes false. */
  get closed(): Promise<void> {
    return this.#closed.promise;
  }

  /** Sends bytes, waiting for the guest to take them. What comes after {@link close} is dropped. */
  async write(data: Uint8Array): Promise<void> {
    let rest = Buffer.from(data.buffer, data.byteOffset, data.length);
    while (rest.length > 0 && this.#isOpen) {
      if (this.#creditBytes === 0) {
        await new Promise<void>((resolve) => this.#waiting.push(resolve));
        continue;
      }
      const sizeBytes = nextChunkBytes(rest, this.#creditBytes);
      this.#creditBytes -= sizeBytes;
      const payload = rest.subarray(0, sizeBytes);
      const hasRoom = this.#transport.send({ name: "data", stream: this.#id, channel: CHANNEL.stdin, payload });
      rest = rest.subarray(sizeBytes);
      if (!hasRoom) await this.#transport.drained();
    }
  }

  /** Says that nothing more comes. Saying it twice is fine. */
  end(): void {
    if (!this.#isOpen || this.#hasEnded) return;
    this.#hasEnded = true;
    this.#transport.send({ name: "end", stream: this.#id, channel: CHANNEL.stdin });
  }

  /** @throws {PROTOCOL_ERROR} when the guest may not grant that. */
  acceptCredit(frame: Frame): void {
    if (frame.payload.length !== 4 || frame.channel !== CHANNEL.stdin) throw violation("malformed credit");
    this.#creditBytes += frame.payload.readUInt32BE(0);
    if (this.#creditBytes > CREDIT_LIMIT_BYTES) throw violation("more credit than can be used");
    this.#wake();
  }

  /** Nothing is sent any more. */
  close(): void {
    this.#isOpen = false;
    this.#closed.resolve();
    this.#wake();
  }

  #wake(): void {
    for (const wake of this.#waiting.splice(0)) wake();
  }
}
