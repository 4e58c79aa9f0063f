// One running command on a connection: stdin with credit, outputs with credit, and how it ended.

import { deferred } from "../base/deferred.js";
import type { SmolVMError } from "../errors/smolvm-error.js";
import { FieldReader, FieldWriter } from "./fields.js";
import { CHANNEL, type Frame, INITIAL_CREDIT_BYTES } from "./frame.js";
import { nextChunkBytes, type OutgoingFrame } from "./frame-writer.js";
import { type GuestSignal, signalNumber } from "./linux-signals.js";
import { violation } from "./violation.js";

/** Credit is returned once this much of an output has been consumed, in bytes. */
const CREDIT_STEP_BYTES = INITIAL_CREDIT_BYTES / 4;
/** Most credit an agent may have granted us at once, in bytes: more is nonsense. */
const CREDIT_LIMIT_BYTES = 2 ** 31;
/**
 * How long the agent may take to say that a killed command is dead, in milliseconds. It waits for credit before that,
 * so a sink that holds its command back counts too.
 */
export const KILL_LIMIT_MS = 10_000;
/** Signal numbers of Linux end here (signal(7)). */
const LAST_SIGNAL = 64;

/** Which output a piece of data came from. */
export type OutputStream = "stdout" | "stderr";

/** Takes output as it comes; a promise holds the guest's writer back until it resolves. */
export type OutputSink = (stream: OutputStream, data: Buffer) => void | Promise<void>;

/** How a command ended in the guest. */
export type ExecExit = { readonly droppedBytes: bigint } & (
  | { readonly exitCode: number }
  | { readonly signal: number }
);

/** What an exec stream needs of its connection. */
export interface StreamTransport {
  send(frame: OutgoingFrame): boolean;
  /** Resolves when the lane takes more. */
  drained(): Promise<void>;
  /** Ends the connection, and with it everything that runs on it. */
  close(why: string): void;
}

export class ExecStream {
  readonly #id: number;
  readonly #transport: StreamTransport;
  readonly #sink: OutputSink;
  readonly #exited = deferred<ExecExit>();
  readonly #stdinClosed = deferred<void>();
  readonly #unconsumedBytes = { stdout: 0, stderr: 0 };
  readonly #creditDueBytes = { stdout: 0, stderr: 0 };
  #consumed: Promise<void> = Promise.resolve();
  #stdinCreditBytes = INITIAL_CREDIT_BYTES;
  #wakeStdin: (() => void) | undefined;
  #pid: number | undefined;
  #hasEnded = false;
  #takesStdin = true;
  #hasSinkFailed = false;
  #killTimer: NodeJS.Timeout | undefined;

  constructor(id: number, transport: StreamTransport, sink: OutputSink) {
    this.#id = id;
    this.#transport = transport;
    this.#sink = sink;
    this.#exited.promise.catch(() => {}); // Whoever awaits it sees the error; nobody need.
  }

  /** Settles after the last output has been consumed. */
  get exited(): Promise<ExecExit> {
    return this.#exited.promise;
  }

  /** Process id in the guest, once the agent has said so. */
  get pid(): number | undefined {
    return this.#pid;
  }

  /** False once the command has ended or was killed. */
  get takesStdin(): boolean {
    return this.#takesStdin;
  }

  /** Resolves when {@link takesStdin} becomes false. */
  get stdinClosed(): Promise<void> {
    return this.#stdinClosed.promise;
  }

  /** Sends stdin, waiting for the guest to take it. Bytes that come after the command's end are dropped. */
  async writeStdin(data: Uint8Array): Promise<void> {
    let rest = Buffer.from(data.buffer, data.byteOffset, data.length);
    while (rest.length > 0 && this.#takesStdin) {
      if (this.#stdinCreditBytes === 0) {
        await new Promise<void>((resolve) => {
          this.#wakeStdin = resolve;
        });
        continue;
      }
      const sizeBytes = nextChunkBytes(rest, this.#stdinCreditBytes);
      this.#stdinCreditBytes -= sizeBytes;
      const payload = rest.subarray(0, sizeBytes);
      const hasRoom = this.#transport.send({ name: "data", stream: this.#id, channel: CHANNEL.stdin, payload });
      rest = rest.subarray(sizeBytes);
      if (!hasRoom) await this.#transport.drained();
    }
  }

  /** Closes the command's stdin. */
  endStdin(): void {
    if (this.#takesStdin) this.#transport.send({ name: "end", stream: this.#id, channel: CHANNEL.stdin });
  }

  /** Signals the command's process group. */
  signal(name: GuestSignal): void {
    if (this.#hasEnded) return;
    const payload = new FieldWriter().u32(1, signalNumber(name)).finish();
    this.#transport.send({ name: "signal", stream: this.#id, payload });
  }

  /**
   * SIGKILL for every process of the command, wherever it moved. Unless the agent confirms it within
   * {@link KILL_LIMIT_MS}, the connection is ended: the agent then kills everything of it, and nothing here waits on.
   */
  kill(): void {
    if (this.#hasEnded) return;
    this.#transport.send({ name: "kill", stream: this.#id });
    this.#closeStdin();
    this.#killTimer ??= setTimeout(
      () => this.#transport.close(`it did not confirm within ${KILL_LIMIT_MS} ms that a command was killed`),
      KILL_LIMIT_MS,
    ).unref();
  }

  /** Nobody wants the command any more: kills it, and {@link exited} rejects with the reason. */
  abandon(reason: unknown): void {
    this.kill();
    this.#exited.reject(reason);
  }

  /**
   * Takes a frame of this stream.
   *
   * @returns True when the stream has ended with it.
   * @throws {PROTOCOL_ERROR} when the frame is not allowed now.
   */
  accept(frame: Frame): boolean {
    switch (frame.name) {
      case "started":
        if (this.#pid !== undefined) throw violation("a command started twice");
        this.#pid = new FieldReader(frame.payload).u32(1) ?? 0;
        return false;
      case "data":
        this.#acceptData(frame);
        return false;
      case "end":
        return false; // EXITED says all there is to know.
      case "credit":
        this.#acceptCredit(frame);
        return false;
      case "exited":
        this.#end(decodeExit(frame.payload));
        return true;
      default:
        throw violation(`frame ${frame.name} does not belong to a command`);
    }
  }

  /** Ends the stream because the command could not be started or the connection is gone. */
  fail(error: SmolVMError): void {
    if (this.#hasEnded) return;
    this.#markEnded();
    this.#exited.reject(error);
  }

  #acceptData(frame: Frame): void {
    const stream = outputStream(frame.channel);
    this.#unconsumedBytes[stream] += frame.payload.length;
    if (this.#unconsumedBytes[stream] > INITIAL_CREDIT_BYTES) throw violation(`${stream} exceeds its credit`);
    this.#consumed = this.#consumed.then(async () => {
      await this.#sink(stream, frame.payload);
      this.#returnCredit(stream, frame.payload.length);
    });
    this.#consumed.catch((error: unknown) => {
      if (this.#hasSinkFailed) return;
      this.#hasSinkFailed = true;
      this.abandon(error);
    });
  }

  #returnCredit(stream: OutputStream, sizeBytes: number): void {
    this.#creditDueBytes[stream] += sizeBytes;
    if (this.#creditDueBytes[stream] < CREDIT_STEP_BYTES || this.#hasEnded) return;
    const payload = Buffer.allocUnsafe(4);
    payload.writeUInt32BE(this.#creditDueBytes[stream]);
    this.#unconsumedBytes[stream] -= this.#creditDueBytes[stream];
    this.#creditDueBytes[stream] = 0;
    this.#transport.send({ name: "credit", stream: this.#id, channel: CHANNEL[stream], payload });
  }

  #acceptCredit(frame: Frame): void {
    if (frame.payload.length !== 4 || frame.channel !== CHANNEL.stdin) throw violation("malformed credit");
    this.#stdinCreditBytes += frame.payload.readUInt32BE(0);
    if (this.#stdinCreditBytes > CREDIT_LIMIT_BYTES) throw violation("more credit than can be used");
    this.#wake();
  }

  #end(exit: ExecExit): void {
    this.#markEnded();
    this.#consumed.then(
      () => this.#exited.resolve(exit),
      () => {}, // The sink's error was reported already.
    );
  }

  #markEnded(): void {
    this.#hasEnded = true;
    clearTimeout(this.#killTimer);
    this.#closeStdin();
  }

  #closeStdin(): void {
    this.#takesStdin = false;
    this.#stdinClosed.resolve();
    this.#wake();
  }

  #wake(): void {
    this.#wakeStdin?.();
    this.#wakeStdin = undefined;
  }
}

function outputStream(channel: number): OutputStream {
  if (channel === CHANNEL.stdout) return "stdout";
  if (channel === CHANNEL.stderr) return "stderr";
  throw violation(`data on channel ${channel}`);
}

function decodeExit(payload: Buffer): ExecExit {
  const fields = new FieldReader(payload);
  const droppedBytes = (fields.u64(3) ?? 0n) + (fields.u64(4) ?? 0n);
  const signal = fields.u32(2);
  if (signal !== undefined) {
    if (signal < 1 || signal > LAST_SIGNAL) throw violation(`signal ${signal}`);
    return { signal, droppedBytes };
  }
  const exitCode = fields.u32(1);
  if (exitCode === undefined || exitCode > 255) throw violation(`exit code ${exitCode}`);
  return { exitCode, droppedBytes };
}
