// Takes the outputs of a stream from the guest and gives it credit as they are consumed.

import { CHANNEL, type Frame, INITIAL_CREDIT_BYTES } from "./frame.js";
import type { StreamTransport } from "./stream-transport.js";
import { violation } from "./violation.js";

/** Credit is returned once this much of an output has been consumed, in bytes. */
const CREDIT_STEP_BYTES = INITIAL_CREDIT_BYTES / 4;

/** Which output a piece of data came from. */
export type OutputStream = "stdout" | "stderr";

/** Takes output as it comes; a promise holds the guest's writer back until it resolves. */
export type OutputSink = (stream: OutputStream, data: Buffer) => void | Promise<void>;

export class ByteReceiver {
  readonly #id: number;
  readonly #transport: StreamTransport;
  readonly #sink: OutputSink;
  readonly #onFailure: (error: unknown) => void;
  readonly #unconsumedBytes = { stdout: 0, stderr: 0 };
  readonly #creditDueBytes = { stdout: 0, stderr: 0 };
  #consumed: Promise<void> = Promise.resolve();
  #isOpen = true;
  #hasFailed = false;

  /** @param onFailure Called once with what the sink threw. */
  constructor(id: number, transport: StreamTransport, sink: OutputSink, onFailure: (error: unknown) => void) {
    this.#id = id;
    this.#transport = transport;
    this.#sink = sink;
    this.#onFailure = onFailure;
  }

  /** Resolves when all that has come so far was consumed; never when the sink has failed. */
  get consumed(): Promise<void> {
    return this.#consumed.catch(() => new Promise<never>(() => {}));
  }

  /** @throws {PROTOCOL_ERROR} when the guest had no credit for it. */
  accept(frame: Frame): void {
    const stream = outputStream(frame.channel);
    this.#unconsumedBytes[stream] += frame.payload.length;
    if (this.#unconsumedBytes[stream] > INITIAL_CREDIT_BYTES) throw violation(`${stream} exceeds its credit`);
    this.inOrder(async () => {
      await this.#sink(stream, frame.payload);
      this.#returnCredit(stream, frame.payload.length);
    });
  }

  /** Does something once all that came before was consumed. */
  inOrder(work: () => void | Promise<void>): void {
    this.#consumed = this.#consumed.then(work);
    this.#consumed.catch((error: unknown) => {
      if (this.#hasFailed) return;
      this.#hasFailed = true;
      this.#onFailure(error);
    });
  }

  /** The stream has ended: nobody wants credit any more. */
  close(): void {
    this.#isOpen = false;
  }

  #returnCredit(stream: OutputStream, sizeBytes: number): void {
    this.#creditDueBytes[stream] += sizeBytes;
    if (this.#creditDueBytes[stream] < CREDIT_STEP_BYTES || !this.#isOpen) return;
    const payload = Buffer.allocUnsafe(4);
    payload.writeUInt32BE(this.#creditDueBytes[stream]);
    this.#unconsumedBytes[stream] -= this.#creditDueBytes[stream];
    this.#creditDueBytes[stream] = 0;
    this.#transport.send({ name: "credit", stream: this.#id, channel: CHANNEL[stream], payload });
  }
}

function outputStream(channel: number): OutputStream {
  if (channel === CHANNEL.stdout) return "stdout";
  if (channel === CHANNEL.stderr) return "stderr";
  throw violation(`data on channel ${channel}`);
}
