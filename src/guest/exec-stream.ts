// One running command on a connection: its stdin, its outputs, and how it ended. Also a view of a detached process.

import { type Deferred, deferred } from "../base/deferred.js";
import type { SmolVMError } from "../errors/smolvm-error.js";
import { ByteReceiver, type OutputSink } from "./byte-receiver.js";
import { ByteSender } from "./byte-sender.js";
import { FieldReader, FieldWriter } from "./fields.js";
import type { Frame } from "./frame.js";
import { type GuestSignal, signalNumber } from "./linux-signals.js";
import { type ClientStream, KILL_LIMIT_MS, type StreamTransport } from "./stream-transport.js";
import { violation } from "./violation.js";

/** Signal numbers of Linux end here (signal(7)). */
const LAST_SIGNAL = 64;

/** How a command ended in the guest. */
export type ExecExit = { readonly droppedBytes: bigint } & (
  | { readonly exitCode: number }
  | { readonly signal: number }
);

/** What the agent says of a command that has started. */
export interface ExecStart {
  /** Process id in the guest. */
  readonly pid: number;
  /** Of a detached process: its id. */
  readonly processId: string | undefined;
  /** Of a detached process: where the output that comes begins, in bytes. */
  readonly offset: bigint;
}

/** What a stream is for. */
export interface ExecPurpose {
  readonly sink: OutputSink;
  /** Words why it could not be started or attached to. */
  readonly refusal: RefusalError;
  /** Whether the process goes on without this stream. */
  readonly isDetached: boolean;
}

/** What becomes of a stream that the agent refuses. */
export type RefusalError = (errno: string, message: string) => SmolVMError;

/** Ids of detached processes (docs/guest-protocol.md, "Detached processes"). */
export const PROCESS_ID_PATTERN = /^[0-9a-f]{8}$/;

export class ExecStream implements ClientStream {
  readonly #id: number;
  readonly #transport: StreamTransport;
  readonly #refusal: RefusalError;
  readonly #isDetached: boolean;
  readonly #started: Deferred<ExecStart> = deferred();
  readonly #exited: Deferred<ExecExit> = deferred();
  readonly #sender: ByteSender;
  readonly #receiver: ByteReceiver;
  #start: ExecStart | undefined;
  #offset = 0n;
  #hasEnded = false;
  #isWanted = false;
  #isDetaching = false;
  #killTimer: NodeJS.Timeout | undefined;

  constructor(id: number, transport: StreamTransport, { sink, refusal, isDetached }: ExecPurpose) {
    this.#id = id;
    this.#transport = transport;
    this.#refusal = refusal;
    this.#isDetached = isDetached;
    this.#sender = new ByteSender(id, transport);
    const counted: OutputSink = async (stream, data) => {
      this.#offset += BigInt(data.length);
      await sink(stream, data);
    };
    this.#receiver = new ByteReceiver(id, transport, counted, (error) => this.abandon(error));
    // Whoever awaits them sees the error; nobody need.
    this.#started.promise.catch(() => {});
    this.#exited.promise.catch(() => {});
  }

  /** A detached process that has started goes on without this program, unless somebody waits for it here. */
  get holdsProgram(): boolean {
    return !this.#isDetached || this.#isWanted || this.#start === undefined;
  }

  /** Somebody waits for its end or its output. */
  want(): void {
    this.#isWanted = true;
    this.#transport.refresh();
  }

  /** Settles when the agent has started the command or could not. */
  get started(): Promise<ExecStart> {
    return this.#started.promise;
  }

  /** Settles after the last output has been consumed. */
  get exited(): Promise<ExecExit> {
    return this.#exited.promise;
  }

  /** Process id in the guest, once the agent has said so. */
  get pid(): number | undefined {
    return this.#start?.pid;
  }

  /** Where in the output of a detached process the next piece begins that was not given to the sink, in bytes. */
  get offset(): bigint {
    return this.#offset;
  }

  /** False once the command has ended or was killed. */
  get takesStdin(): boolean {
    return this.#sender.isOpen;
  }

  /** Resolves when {@link takesStdin} becomes false. */
  get stdinClosed(): Promise<void> {
    return this.#sender.closed;
  }

  /** Sends stdin, waiting for the guest to take it. Bytes that come after the command's end are dropped. */
  writeStdin(data: Uint8Array): Promise<void> {
    return this.#sender.write(data);
  }

  /** Closes the command's stdin. */
  endStdin(): void {
    this.#sender.end();
  }

  /** Signals the command's process group. */
  signal(name: GuestSignal): void {
    if (this.#hasEnded) return;
    const payload = new FieldWriter().u32(1, signalNumber(name)).finish();
    this.#transport.send({ name: "signal", stream: this.#id, payload });
  }

  /** Tells a command with a PTY the size of its terminal. */
  resize(size: { readonly cols: number; readonly rows: number }): void {
    if (this.#hasEnded) return;
    const payload = new FieldWriter().u32(1, size.cols).u32(2, size.rows).finish();
    this.#transport.send({ name: "resize", stream: this.#id, payload });
  }

  /**
   * SIGKILL for every process of the command, wherever it moved. Unless the agent confirms it within
   * {@link KILL_LIMIT_MS}, the connection is ended: the agent then kills everything of it, and nothing here waits on.
   */
  kill(): void {
    if (this.#hasEnded) return;
    this.#transport.send({ name: "kill", stream: this.#id });
    this.#sender.close();
    this.#expectEnd("a command was killed");
  }

  /** Ends this view of a detached process, which goes on; {@link exited} rejects with the reason. */
  detach(reason: unknown): void {
    if (this.#hasEnded || this.#isDetaching) return;
    this.#isDetaching = true;
    this.#transport.send({ name: "detach", stream: this.#id });
    this.#sender.close();
    this.#expectEnd("a process was let go");
    this.#exited.reject(reason);
  }

  /** Nobody wants the command any more: kills it, or lets it go if it is detached; {@link exited} rejects with the reason. */
  abandon(reason: unknown): void {
    this.#exited.reject(reason);
    if (!this.#isDetached) this.kill();
    else
      this.#started.promise.then(
        () => this.detach(reason),
        () => {}, // It never was.
      );
  }

  accept(frame: Frame): boolean {
    switch (frame.name) {
      case "started":
        this.#acceptStart(frame);
        return false;
      case "data":
        if (this.#isDetaching) return false;
        this.#receiver.accept(frame);
        return false;
      case "end":
        return false; // EXITED says all there is to know.
      case "credit":
        this.#sender.acceptCredit(frame);
        return false;
      case "skipped":
        this.#acceptSkip(frame);
        return false;
      case "exited":
        this.#end(decodeExit(frame.payload));
        return true;
      case "reply":
        if (!this.#isDetaching) throw violation("a command ended with a reply");
        this.#markEnded();
        return true;
      default:
        throw violation(`frame ${frame.name} does not belong to a command`);
    }
  }

  refuse(errno: string, message: string): void {
    this.fail(this.#refusal(errno, message));
  }

  fail(error: SmolVMError): void {
    if (this.#hasEnded) return;
    this.#started.reject(error);
    this.#markEnded();
    this.#exited.reject(error);
  }

  #acceptStart(frame: Frame): void {
    if (this.#start !== undefined) throw violation("a command started twice");
    const fields = new FieldReader(frame.payload);
    const processId = fields.text(2);
    if (processId !== undefined && !PROCESS_ID_PATTERN.test(processId)) throw violation("malformed id of a process");
    this.#start = { pid: fields.u32(1) ?? 0, processId, offset: fields.u64(3) ?? 0n };
    this.#offset = this.#start.offset;
    this.#started.resolve(this.#start);
    this.#transport.refresh();
  }

  #acceptSkip(frame: Frame): void {
    const offset = new FieldReader(frame.payload).u64(1);
    if (this.#start?.processId === undefined || offset === undefined) throw violation("malformed skip");
    this.#receiver.inOrder(() => {
      this.#offset = offset;
    });
  }

  #end(exit: ExecExit): void {
    this.#markEnded();
    this.#receiver.inOrder(() => this.#exited.resolve(exit));
  }

  #expectEnd(what: string): void {
    this.#killTimer ??= setTimeout(
      () => this.#transport.close(`it did not confirm within ${KILL_LIMIT_MS} ms that ${what}`),
      KILL_LIMIT_MS,
    ).unref();
  }

  #markEnded(): void {
    this.#hasEnded = true;
    clearTimeout(this.#killTimer);
    // Nothing happens where it has started, or has been said to be impossible.
    this.#started.reject(violation("a command ended without having started"));
    this.#sender.close();
    this.#receiver.close();
  }
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
