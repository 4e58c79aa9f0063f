// A connection to the guest agent over one lane: handshake, streams, and what its end means for them.
// Many commands at once; the guest is not trusted.

import { randomBytes } from "node:crypto";
import type { Duplex } from "node:stream";
import type { Deadline } from "../base/deadline.js";
import { type Deferred, deferred } from "../base/deferred.js";
import { within } from "../base/within.js";
import { SmolVMError } from "../errors/smolvm-error.js";
import { waitError } from "../errors/wait-errors.js";
import type { OutputSink } from "./byte-receiver.js";
import { CallExchange, type ExchangeOptions } from "./call-exchange.js";
import { type ExecRequest, encodeExecRequest } from "./exec-request.js";
import { ExecStream, type RefusalError } from "./exec-stream.js";
import { FieldReader, FieldWriter } from "./fields.js";
import { type Frame, type FrameName, PROTOCOL_VERSION } from "./frame.js";
import { FrameDecoder } from "./frame-decoder.js";
import { FrameWriter } from "./frame-writer.js";
import { SimpleCall } from "./simple-call.js";
import type { ClientStream, StreamTransport } from "./stream-transport.js";
import { violation } from "./violation.js";

const NONCE_BYTES = 16;
/**
 * Calls that nobody waits for any more and that the agent may still answer; one more ends the connection. An agent
 * never has more streams open than this.
 */
const FORGOTTEN_CALLS_LIMIT = 256;

/** A socket that can let the program end while it is idle. */
interface Referable {
  ref?(): void;
  unref?(): void;
}

export class GuestConnection {
  readonly #socket: Duplex & Referable;
  readonly #writer: FrameWriter;
  readonly #transport: StreamTransport;
  readonly #decoder: FrameDecoder;
  readonly #streams = new Map<number, ClientStream>();
  /** Streams of calls whose answer comes too late for anybody. */
  readonly #forgotten = new Set<number>();
  readonly #welcomed = deferred<void>();
  readonly #closed = deferred<SmolVMError>();
  #lastStream = 0;
  #isWelcomed = false;
  #isOpen = true;
  /** Resolves when the lane takes more; one for all who wait. */
  #room: Deferred<void> | undefined;

  private constructor(socket: Duplex, nonce: Buffer) {
    this.#socket = socket;
    this.#writer = new FrameWriter(socket);
    this.#transport = {
      send: (frame) => this.#writer.send(frame),
      drained: () => this.#drained(),
      close: (why) => this.#end(closedError(why)),
      refresh: () => this.#updateReference(),
    };
    this.#decoder = new FrameDecoder(nonce);
    this.#welcomed.promise.catch(() => {});
    socket.on("data", (chunk: Buffer) => this.#receive(chunk));
    socket.on("drain", () => this.#letWritersOn());
    socket.on("error", (error) => this.#end(closedError("the lane failed", error)));
    socket.on("close", () => this.#end(closedError("the guest or its VMM ended")));
  }

  /**
   * Introduces itself to the agent and waits for its answer.
   *
   * @param socket A lane that nobody else uses; it belongs to the connection from now on, also on failure.
   * @throws {TIMEOUT} when the agent did not answer in time.
   * @throws {CHANNEL_CLOSED} when the lane ended first.
   * @throws {PROTOCOL_ERROR} when something else than an agent of our version answered.
   * @throws {ABORTED}
   */
  static async open(socket: Duplex, deadline: Deadline): Promise<GuestConnection> {
    const nonce = randomBytes(NONCE_BYTES);
    const connection = new GuestConnection(socket, nonce);
    connection.#writer.open(new FieldWriter().u32(1, PROTOCOL_VERSION).bytes(2, nonce).finish());
    try {
      await within(connection.#welcomed.promise, deadline, () => {
        throw waitError("Handshake with the guest agent", deadline);
      });
    } catch (error) {
      connection.#end(error as SmolVMError);
      throw error;
    }
    connection.#updateReference();
    return connection;
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** Resolves, with the reason, when the connection has ended. Never rejects. */
  get closed(): Promise<SmolVMError> {
    return this.#closed.promise;
  }

  /**
   * Starts a command.
   *
   * @param sink Takes its output; see {@link OutputSink}.
   * @returns Its stream. `exited` rejects with `COMMAND_FAILED` (details: errno) when it could not be started.
   * @throws {CHANNEL_CLOSED}
   */
  exec(request: ExecRequest, sink: OutputSink): ExecStream {
    const payload = encodeExecRequest(request);
    const id = this.#openStreamId();
    const stream = new ExecStream(id, this.#transport, {
      sink,
      refusal: notStarted,
      isDetached: request.isDetached ?? false,
    });
    this.#open(id, stream, { name: "exec", payload });
    return stream;
  }

  /**
   * Opens a view of a detached process.
   *
   * @param offset Where its output is to begin, in bytes; default the oldest that is kept.
   * @returns Its stream. `exited` rejects with `PROCESS_NOT_FOUND` when there is no such process.
   * @throws {CHANNEL_CLOSED}
   */
  attach(processId: string, offset: bigint | undefined, sink: OutputSink): ExecStream {
    const id = this.#openStreamId();
    const stream = new ExecStream(id, this.#transport, { sink, refusal: notAttached(processId), isDetached: true });
    this.#open(id, stream, { name: "attach", payload: new FieldWriter().text(1, processId).u64(2, offset).finish() });
    return stream;
  }

  /**
   * Calls an operation of the agent itself. Whoever stops waiting for its answer leaves the operation to go on.
   *
   * @throws {TIMEOUT} @throws {ABORTED} @throws {CHANNEL_CLOSED}
   * @throws {INTERNAL} as a {@link GuestRefusal} when the agent refused it.
   */
  async call(operation: string, fields: FieldWriter, deadline: Deadline): Promise<FieldReader> {
    const id = this.#openStreamId();
    const call = new SimpleCall(operation);
    this.#open(id, call, { name: "call", payload: callPayload(operation, fields) });
    return within(call.reply, deadline, () => {
      this.#forget(id);
      throw waitError(`Guest operation "${operation}"`, deadline);
    });
  }

  /**
   * Calls an operation that takes or gives data. It is cancelled when the deadline passes.
   *
   * @throws {CHANNEL_CLOSED} All else is told by the exchange's `reply`.
   */
  exchange(operation: string, fields: FieldWriter, options: ExchangeOptions): CallExchange {
    const id = this.#openStreamId();
    const exchange = new CallExchange(id, operation, this.#transport, options);
    this.#open(id, exchange, { name: "call", payload: callPayload(operation, fields) });
    return exchange;
  }

  /** Ends the connection; commands that still run are killed by the agent. Closing twice is fine. */
  close(): void {
    this.#end(closedError("it was closed by this program"));
  }

  #openStreamId(): number {
    if (!this.#isOpen) throw closedError("it had ended before");
    this.#lastStream += 1;
    return this.#lastStream;
  }

  #open(id: number, stream: ClientStream, frame: { readonly name: FrameName; readonly payload: Buffer }): void {
    this.#streams.set(id, stream);
    this.#updateReference();
    this.#writer.send({ ...frame, stream: id });
  }

  #receive(chunk: Buffer): void {
    if (!this.#isOpen) return;
    try {
      for (const frame of this.#decoder.push(chunk)) this.#dispatch(frame);
    } catch (error) {
      this.#end(error instanceof SmolVMError ? error : violation(String(error)));
    }
  }

  #dispatch(frame: Frame): void {
    if (frame.name === "welcome") {
      this.#acceptWelcome(frame);
      return;
    }
    if (frame.name === "fatal") {
      const fields = new FieldReader(frame.payload);
      throw new SmolVMError("PROTOCOL_ERROR", `The guest agent ended the connection: ${fields.text(2)}`, {
        details: { agentCode: fields.text(1) },
      });
    }
    const stream = this.#streams.get(frame.stream);
    const isAnswer = frame.name === "reply" || frame.name === "failed";
    if (stream === undefined && isAnswer && this.#forgotten.delete(frame.stream)) return;
    if (stream === undefined) throw violation(`frame ${frame.name} for stream ${frame.stream}, which is not open`);
    if (deliver(stream, frame)) {
      this.#streams.delete(frame.stream);
      this.#updateReference();
    }
  }

  #acceptWelcome(frame: Frame): void {
    if (this.#isWelcomed) throw violation("a second welcome");
    this.#isWelcomed = true;
    const version = new FieldReader(frame.payload).u32(1);
    // An agent of another version follows up with FATAL, which says it better.
    if (version === PROTOCOL_VERSION) this.#welcomed.resolve();
  }

  #end(reason: SmolVMError): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#welcomed.reject(reason);
    for (const stream of this.#streams.values()) stream.fail(reason);
    this.#streams.clear();
    this.#forgotten.clear();
    this.#socket.destroy();
    this.#letWritersOn();
    this.#closed.resolve(reason);
  }

  /** Lets go of a call that was not answered in time; its late answer is dropped. */
  #forget(id: number): void {
    if (!this.#streams.delete(id)) return;
    this.#forgotten.add(id);
    this.#updateReference();
    if (this.#forgotten.size > FORGOTTEN_CALLS_LIMIT) {
      this.#end(closedError(`the agent left ${FORGOTTEN_CALLS_LIMIT} calls unanswered`));
    }
  }

  async #drained(): Promise<void> {
    if (!this.#isOpen || !this.#socket.writableNeedDrain) return;
    this.#room ??= deferred();
    await this.#room.promise;
  }

  #letWritersOn(): void {
    this.#room?.resolve();
    this.#room = undefined;
  }

  /** An idle connection does not keep the program alive. */
  #updateReference(): void {
    for (const { holdsProgram } of this.#streams.values()) {
      if (holdsProgram) {
        this.#socket.ref?.();
        return;
      }
    }
    this.#socket.unref?.();
  }
}

/** @returns True when the frame ended its stream. */
function deliver(stream: ClientStream, frame: Frame): boolean {
  if (frame.name !== "failed") return stream.accept(frame);
  const fields = new FieldReader(frame.payload);
  stream.refuse(fields.text(1) ?? "EIO", fields.text(2) ?? "");
  return true;
}

function callPayload(operation: string, fields: FieldWriter): Buffer {
  return Buffer.concat([new FieldWriter().text(1, operation).finish(), fields.finish()]);
}

const notStarted: RefusalError = (errno, message) =>
  new SmolVMError("COMMAND_FAILED", `Cannot run the command: ${message} (${errno})`, {
    details: { errno },
    hint: "The command did not start; details.errno says why.",
  });

function notAttached(processId: string): RefusalError {
  return (errno, message) =>
    errno === "ESRCH"
      ? new SmolVMError("PROCESS_NOT_FOUND", `Cannot attach to process "${processId}": the VM has none of this id`, {
          details: { processId },
        })
      : notStarted(errno, message);
}

function closedError(why: string, cause?: unknown): SmolVMError {
  return new SmolVMError("CHANNEL_CLOSED", `The connection to the guest agent ended: ${why}`, { cause });
}
