// Takes the outputs of a stream from the guest and gives it credit as they are consumed. What waits for its consumer is
// kept as bytes, not as frames: a guest that sends single bytes must not cost an object for each of them.

import { CHANNEL, type Frame, INITIAL_CREDIT_BYTES } from "./frame.js";
import type { StreamTransport } from "./stream-transport.js";
import { violation } from "./violation.js";

/** Credit is returned once this much of an output has been consumed, in bytes. */
const CREDIT_STEP_BYTES = INITIAL_CREDIT_BYTES / 4;
/** Largest piece that is put together out of several frames, in bytes. */
const PIECE_LIMIT_BYTES = 64 * 1024;
/** Pieces and other work in a row before timers and sockets get their turn. */
const TURN_LENGTH = 1024;
/** Things other than data that may wait for their turn; an agent has no reason to send so many. */
const WAITING_WORK_LIMIT = 4096;
/** First room for what waits, in bytes. */
const FIRST_ROOM_BYTES = 4096;

/** Which output a piece of data came from. */
export type OutputStream = "stdout" | "stderr";

/** Takes output as it comes; a promise holds the guest's writer back until it resolves. */
export type OutputSink = (stream: OutputStream, data: Buffer) => void | Promise<void>;

type Work = () => void | Promise<void>;

export class ByteReceiver {
  readonly #id: number;
  readonly #transport: StreamTransport;
  readonly #sink: OutputSink;
  readonly #onFailure: (error: unknown) => void;
  readonly #unconsumedBytes = { stdout: 0, stderr: 0 };
  readonly #creditDueBytes = { stdout: 0, stderr: 0 };
  /** What waits, in order: a run of bytes by its length, negative for stderr, or other work. */
  #waiting: (number | Work)[] = [];
  #nextWaiting = 0;
  #waitingWork = 0;
  /** The bytes of the runs that wait, one behind the other. */
  #bytes = Buffer.alloc(0);
  #bytesFrom = 0;
  #bytesTo = 0;
  #isBusy = false;
  #isOpen = true;
  #hasFailed = false;

  /** @param onFailure Called once with what the sink threw; nothing is consumed any more then. */
  constructor(id: number, transport: StreamTransport, sink: OutputSink, onFailure: (error: unknown) => void) {
    this.#id = id;
    this.#transport = transport;
    this.#sink = sink;
    this.#onFailure = onFailure;
  }

  /** @throws {PROTOCOL_ERROR} when the guest had no credit for it. */
  accept(frame: Frame): void {
    const stream = outputStream(frame.channel);
    this.#unconsumedBytes[stream] += frame.payload.length;
    if (this.#unconsumedBytes[stream] > INITIAL_CREDIT_BYTES) throw violation(`${stream} exceeds its credit`);
    if (this.#hasFailed) return;
    if (this.#isBusy) this.#keep(stream, frame.payload);
    else void this.#work(() => this.#give(stream, frame.payload)); // As it is: a fast consumer costs no copy.
  }

  /** Does something once all that came before was consumed; never when the sink has failed. */
  inOrder(work: Work): void {
    if (this.#hasFailed) return;
    if (!this.#isBusy) {
      void this.#work(work);
      return;
    }
    this.#waitingWork += 1;
    if (this.#waitingWork > WAITING_WORK_LIMIT) throw violation("too much that is not data");
    this.#waiting.push(work);
  }

  /** The stream has ended: nobody wants credit any more. */
  close(): void {
    this.#isOpen = false;
  }

  /** Does one thing, then all that has come to wait meanwhile. */
  async #work(first: Work): Promise<void> {
    this.#isBusy = true;
    try {
      await first();
      for (let done = 1; this.#nextWaiting < this.#waiting.length; done++) {
        if (done % TURN_LENGTH === 0) await new Promise(setImmediate);
        await this.#next();
      }
      this.#waiting = [];
      this.#nextWaiting = 0;
    } catch (error) {
      this.#hasFailed = true;
      this.#waiting = [];
      this.#bytes = Buffer.alloc(0);
      this.#onFailure(error);
    } finally {
      this.#isBusy = false;
    }
  }

  #next(): void | Promise<void> {
    const entry = this.#waiting[this.#nextWaiting];
    this.#nextWaiting += 1;
    if (entry === undefined) return undefined;
    if (typeof entry !== "number") {
      this.#waitingWork -= 1;
      return entry();
    }
    const stream = entry > 0 ? "stdout" : "stderr";
    const sizeBytes = Math.min(Math.abs(entry), PIECE_LIMIT_BYTES);
    const rest = Math.abs(entry) - sizeBytes;
    if (rest > 0) {
      this.#nextWaiting -= 1;
      this.#waiting[this.#nextWaiting] = entry > 0 ? rest : -rest;
    }
    const piece = Buffer.from(this.#bytes.subarray(this.#bytesFrom, this.#bytesFrom + sizeBytes));
    this.#bytesFrom += sizeBytes;
    return this.#give(stream, piece);
  }

  #keep(stream: OutputStream, data: Buffer): void {
    this.#makeRoom(data.length);
    data.copy(this.#bytes, this.#bytesTo);
    this.#bytesTo += data.length;
    const last = this.#waiting.length - 1;
    const run = this.#waiting[last];
    const length = stream === "stdout" ? data.length : -data.length;
    const isSameRun = typeof run === "number" && last >= this.#nextWaiting && run > 0 === length > 0;
    if (isSameRun) this.#waiting[last] = run + length;
    else this.#waiting.push(length);
  }

  /** Never more than the credit of both outputs waits, so neither does the block grow beyond twice that. */
  #makeRoom(sizeBytes: number): void {
    if (this.#bytesTo + sizeBytes <= this.#bytes.length) return;
    const waiting = this.#bytes.subarray(this.#bytesFrom, this.#bytesTo);
    const needed = waiting.length + sizeBytes;
    const block = Buffer.allocUnsafe(Math.max(FIRST_ROOM_BYTES, 2 * needed));
    waiting.copy(block);
    this.#bytes = block;
    this.#bytesFrom = 0;
    this.#bytesTo = waiting.length;
  }

  async #give(stream: OutputStream, data: Buffer): Promise<void> {
    await this.#sink(stream, data);
    this.#returnCredit(stream, data.length);
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
