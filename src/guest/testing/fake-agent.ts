// A scripted guest agent at the other end of an in-memory lane. It checks nothing that a test does not ask it to check,
// and sends whatever a test tells it to, right or wrong.

import { Duplex } from "node:stream";
import { onTestFinished } from "vitest";
import { Deadline } from "../../base/deadline.js";
import { deferred } from "../../base/deferred.js";
import { SmolVMError } from "../../errors/smolvm-error.js";
import { GuestConnection } from "../connection.js";
import { FieldReader, FieldWriter } from "../fields.js";
import {
  CHANNEL,
  decodeHeader,
  encodeHeader,
  type Frame,
  type FrameName,
  HEADER_BYTES,
  PREAMBLE,
  PROTOCOL_VERSION,
} from "../frame.js";

/** Longest wait for a frame of the client, in milliseconds: far above what a test needs. */
const FRAME_TIMEOUT_MS = 5_000;
const NO_BYTES = Buffer.alloc(0);

/** A frame for the client; the agent numbers it unless told a number. */
export interface AgentFrame {
  readonly stream?: number;
  readonly channel?: number;
  readonly sequence?: number;
  readonly payload?: Uint8Array;
}

export class FakeAgent {
  /** The client's end of the lane. */
  readonly lane: Duplex;
  /** All that the client sent, as bytes. */
  received: Buffer = NO_BYTES;
  /** All that the client sent after its preamble, as frames. */
  readonly frames: Frame[] = [];
  readonly #socket: Duplex;
  readonly #waiting: (() => void)[] = [];
  readonly #taken = new Set<Frame>();
  #parsedBytes = 0;
  #sequence = 0;

  constructor() {
    [this.lane, this.#socket] = lanePair();
    this.#socket.on("data", (chunk: Buffer) => this.#receive(chunk));
    this.#socket.on("error", () => {});
    onTestFinished(() => {
      this.#socket.destroy();
      this.lane.destroy();
    });
  }

  /** An agent and a connection to it that has shaken hands. */
  static async connected(): Promise<{ readonly agent: FakeAgent; readonly connection: GuestConnection }> {
    const agent = new FakeAgent();
    const opening = GuestConnection.open(agent.lane, Deadline.after(FRAME_TIMEOUT_MS));
    await agent.welcome();
    return { agent, connection: await opening };
  }

  /** Answers the client's `HELLO`. */
  async welcome(answer: { readonly version?: number } = {}): Promise<void> {
    const nonce = await this.nonce();
    this.raw(PREAMBLE);
    this.send("welcome", { payload: welcomePayload(nonce, answer.version) });
  }

  /** The nonce of the client's `HELLO`. */
  async nonce(): Promise<Buffer> {
    const hello = await this.next("hello");
    return new FieldReader(hello.payload).bytes(2) ?? NO_BYTES;
  }

  /** The next frame of this type that was not taken before, waiting for it. */
  async next(name: FrameName): Promise<Frame> {
    const givesUpAtMs = performance.now() + FRAME_TIMEOUT_MS;
    for (;;) {
      const frame = this.frames.find((one) => one.name === name && !this.#taken.has(one));
      if (frame !== undefined) {
        this.#taken.add(frame);
        return frame;
      }
      if (performance.now() > givesUpAtMs) {
        throw new SmolVMError(
          "INTERNAL",
          `no frame ${name} came, only: ${this.frames.map((one) => one.name).join(", ")}`,
        );
      }
      await this.#somethingCame();
    }
  }

  /** All frames of a type so far. */
  all(name: FrameName): Frame[] {
    return this.frames.filter((frame) => frame.name === name);
  }

  send(name: FrameName, frame: AgentFrame = {}): void {
    this.raw(this.encode(name, frame));
  }

  /** The bytes of a frame, which takes the next number. */
  encode(name: FrameName, { stream = 0, channel = 0, sequence, payload = NO_BYTES }: AgentFrame = {}): Buffer {
    const number = sequence ?? this.#sequence;
    this.#sequence = number + 1;
    return Buffer.concat([
      encodeHeader({ name, stream, channel, sequence: number, payloadBytes: payload.length }),
      payload,
    ]);
  }

  started(stream: number, pid = 7): void {
    this.send("started", { stream, payload: new FieldWriter().u32(1, pid).finish() });
  }

  stdout(stream: number, data: string | Uint8Array): void {
    this.send("data", { stream, channel: CHANNEL.stdout, payload: Buffer.from(data) });
  }

  stderr(stream: number, data: string | Uint8Array): void {
    this.send("data", { stream, channel: CHANNEL.stderr, payload: Buffer.from(data) });
  }

  /** Credit for the client's stdin. */
  credit(stream: number, sizeBytes: number): void {
    const payload = Buffer.alloc(4);
    payload.writeUInt32BE(sizeBytes);
    this.send("credit", { stream, payload });
  }

  exited(stream: number, exitCode: number, dropped: { readonly stdout?: bigint; readonly stderr?: bigint } = {}): void {
    const fields = new FieldWriter().u32(1, exitCode);
    fields
      .u64(3, dropped.stdout ?? 0n)
      .u64(4, dropped.stderr ?? 0n)
      .u64(5, 1000n);
    this.send("exited", { stream, payload: fields.finish() });
  }

  killedBy(stream: number, signal: number): void {
    this.send("exited", { stream, payload: new FieldWriter().u32(2, signal).finish() });
  }

  failed(stream: number, errno: string, message: string): void {
    this.send("failed", { stream, payload: new FieldWriter().text(1, errno).text(2, message).finish() });
  }

  /** Bytes as they are. */
  raw(bytes: Uint8Array): void {
    this.#socket.write(bytes);
  }

  /** Takes nothing more from the client until {@link readOn}. */
  stopReading(): void {
    this.#socket.pause();
  }

  readOn(): void {
    this.#socket.resume();
  }

  /** Goes away, as a VMM that is killed. */
  vanish(): void {
    this.#socket.destroy();
    this.lane.destroy();
  }

  #somethingCame(): Promise<void> {
    const came = deferred<void>();
    const timer = setTimeout(came.resolve, FRAME_TIMEOUT_MS);
    this.#waiting.push(came.resolve);
    return came.promise.finally(() => clearTimeout(timer));
  }

  #receive(chunk: Buffer): void {
    this.received = Buffer.concat([this.received, chunk]);
    if (this.#parsedBytes === 0) {
      if (this.received.length < PREAMBLE.length) return;
      this.#parsedBytes = PREAMBLE.length;
    }
    for (;;) {
      const rest = this.received.subarray(this.#parsedBytes);
      if (rest.length < HEADER_BYTES) break;
      const header = decodeHeader(rest);
      if (typeof header === "string") throw new SmolVMError("INTERNAL", `the client broke the protocol: ${header}`);
      const endBytes = HEADER_BYTES + header.payloadBytes;
      if (rest.length < endBytes) break;
      this.frames.push({ ...header, payload: rest.subarray(HEADER_BYTES, endBytes) });
      this.#parsedBytes += endBytes;
    }
    for (const wake of this.#waiting.splice(0)) wake();
  }
}

/** The payload of a `WELCOME`. */
export function welcomePayload(nonce: Uint8Array, version = PROTOCOL_VERSION): Buffer {
  return new FieldWriter().u32(1, version).bytes(2, nonce).text(3, "0.0.0-fake").finish();
}

/** Two ends of a lane in memory, each with the usual buffer: writing to a full one says so. */
function lanePair(): [Duplex, Duplex] {
  const ends: [LaneEnd, LaneEnd] = [new LaneEnd(), new LaneEnd()];
  ends[0].peer = ends[1];
  ends[1].peer = ends[0];
  return ends;
}

class LaneEnd extends Duplex {
  peer: LaneEnd | undefined;
  #onRead: (() => void) | undefined;

  override _read(): void {
    const resume = this.#onRead;
    this.#onRead = undefined;
    resume?.();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    const peer = this.peer;
    if (peer === undefined || peer.destroyed) done();
    else if (peer.push(chunk)) setImmediate(done);
    else peer.#onRead = done;
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    done(error);
    // A socket whose other end is gone closes too.
    if (this.peer?.destroyed === false) setImmediate(() => this.peer?.destroy());
  }
}
