// A process in the guest: a promise of its result, an iterable of its output, and a handle to act on it.

import { Writable } from "node:stream";
import type { Deadline } from "../base/deadline.js";
import { deferred } from "../base/deferred.js";
import { invalidConfig } from "../errors/invalid-config.js";
import { SmolVMError } from "../errors/smolvm-error.js";
import { waitError } from "../errors/wait-errors.js";
import type { OutputSink } from "./byte-receiver.js";
import { commandFailed, cutShortError } from "./command-error.js";
import { type CommandInput, feedStdin } from "./command-input.js";
import { type CommandResult, commandResult } from "./command-result.js";
import { awaitEndOrCut, type CutShort, killAndWait } from "./cut-short.js";
import type { PtySize } from "./exec-request.js";
import type { ExecExit, ExecStream } from "./exec-stream.js";
import { type GuestSignal, isGuestSignal } from "./linux-signals.js";
import { type ProcessOutput, ProcessOutputQueue } from "./process-output.js";

/** Largest size of a terminal, in characters (`struct winsize` has 16 bits for it). */
export const PTY_SIDE_LIMIT = 65_535;

/** How a process is opened and what becomes of it. */
export interface ProcessRequest {
  /** Starts it, or attaches to it; called once. */
  readonly open: (sink: OutputSink) => Promise<ExecStream>;
  readonly deadline: Deadline;
  /** What is kept of each of stdout and stderr for the result, in bytes. */
  readonly maxOutputBytes: number;
  /** What its stdin gets; `"pipe"`: what is written to {@link GuestProcess.stdin}; `null`: nothing. */
  readonly stdin: CommandInput | "pipe" | null;
  /** Whether a result other than exit 0 is an error. */
  readonly check: boolean;
  /** Whether it goes on without this handle, unless it is killed. */
  readonly isDetached: boolean;
  /** Whether somebody else has started it: then even the caller's deadline only ends this handle. */
  readonly isView: boolean;
  /** The command as people write it, for errors. */
  readonly shown: string;
  readonly onResult?: ((result: CommandResult) => void) | undefined;
  readonly onError?: ((error: unknown) => void) | undefined;
}

/**
 * A process that was started, or attached to. Awaiting it gives its {@link CommandResult}; iterating over it gives its
 * output as it comes, and holds the process back while the reader is busy. Until either is asked for, output waits in the
 * guest. Leaving the iteration early kills the process; a detached one is let go.
 *
 * An async function that returns one returns its result: what is awaited is not the handle any more.
 *
 * @example
 * const build = vm.spawn("make");
 * for await (const { stream, data } of build) process[stream].write(data);
 * console.log((await build).exitCode);
 */
export class GuestProcess implements PromiseLike<CommandResult>, AsyncIterable<ProcessOutput>, AsyncDisposable {
  /** What the process reads. Ends with `end()`; a PTY sees Ctrl-D then. Destroyed when stdin was given otherwise. */
  readonly stdin: Writable;
  readonly #request: ProcessRequest;
  readonly #output: ProcessOutputQueue;
  readonly #opened = deferred<ExecStream>();
  readonly #started: Promise<void>;
  readonly #outcome: Promise<CommandResult>;
  #stream: ExecStream | undefined;
  #pid: number | undefined;
  #id: string | undefined;
  #hasEnded = false;
  /** Why this handle let its process go. */
  #letGo: unknown;

  /** @internal */
  constructor(request: ProcessRequest) {
    this.#request = request;
    this.#output = new ProcessOutputQueue(request.maxOutputBytes);
    this.stdin = this.#makeStdin(request.stdin === "pipe");
    this.#outcome = this.#run();
    this.#started = this.#opened.promise.then(async (stream) => {
      const { pid, processId } = await stream.started;
      this.#pid = pid;
      this.#id = processId;
    });
    // Whoever awaits them sees the error; nobody need.
    this.#outcome.catch((error: unknown) => this.#opened.reject(error));
    this.#started.catch(() => {});
  }

  /** Process id in the guest, once it is {@link started}. */
  get pid(): number | undefined {
    return this.#pid;
  }

  /** Of a detached process, once it is {@link started}: what `vm.processes.attach()` takes. */
  get id(): string | undefined {
    return this.#id;
  }

  /**
   * Resolves when the guest has started the process.
   *
   * @throws {COMMAND_FAILED} with `details.errno` when it could not, and whatever else awaiting the process throws.
   */
  get started(): Promise<void> {
    return this.#started;
  }

  /** Where in its output the next piece begins, in bytes: to be given to `attach()` by whoever reads on. */
  get offset(): number {
    return Number(this.#stream?.offset ?? 0n);
  }

  /**
   * Signals the process group. `SIGKILL` reaches every process that it has started, wherever it moved.
   *
   * @param signal Default `"SIGTERM"`.
   * @throws {INVALID_CONFIG} for a signal that Linux does not have.
   */
  kill(signal: GuestSignal = "SIGTERM"): void {
    if (!isGuestSignal(signal)) {
      throw invalidConfig({ field: "signal", value: signal, expected: "the name of a signal, such as SIGTERM" });
    }
    this.#act((stream) => {
      if (signal !== "SIGKILL") {
        stream.signal(signal);
        return;
      }
      this.#output.release();
      stream.kill();
    });
  }

  /** Tells it the new size of its PTY. @throws {INVALID_CONFIG} unless both are whole numbers from 1 to 65 535. */
  resize(size: PtySize): void {
    checkPtySize(size);
    this.#act((stream) => stream.resize(size));
  }

  /**
   * Lets a detached process go on without this handle, whose promise then rejects with `INVALID_STATE`.
   *
   * @throws {INVALID_STATE} when it is not detached.
   */
  detach(): void {
    if (!this.#request.isDetached) {
      throw new SmolVMError("INVALID_STATE", "Cannot detach from the process: it was not started with detached: true");
    }
    this.#letGo ??= new SmolVMError("INVALID_STATE", "The process was let go with detach()");
    this.#act((stream) => stream.detach(this.#letGo));
  }

  // biome-ignore lint/suspicious/noThenProperty: a process is a promise of its result, as in execa.
  then<T = CommandResult, F = never>(
    onResult?: ((result: CommandResult) => T | PromiseLike<T>) | null,
    onError?: ((error: unknown) => F | PromiseLike<F>) | null,
  ): Promise<T | F> {
    this.#output.collectUnlessRead();
    this.#act((stream) => stream.want());
    return this.#outcome.then(onResult, onError);
  }

  catch<F = never>(onError?: ((error: unknown) => F | PromiseLike<F>) | null): Promise<CommandResult | F> {
    return this.then(undefined, onError);
  }

  finally(onEnd?: (() => void) | null): Promise<CommandResult> {
    return this.then().finally(onEnd);
  }

  /** @throws {INVALID_STATE} when somebody else iterates over it. */
  [Symbol.asyncIterator](): AsyncIterableIterator<ProcessOutput, void, undefined> {
    if (!this.#output.read()) {
      throw new SmolVMError("INVALID_STATE", "Cannot iterate over the process: its output is being read already");
    }
    this.#act((stream) => stream.want());
    const pieces = this.#read();
    let hasBegun = false;
    const iterator: AsyncIterableIterator<ProcessOutput, void, undefined> = {
      next: () => {
        hasBegun = true;
        return pieces.next();
      },
      return: () => {
        if (!hasBegun) this.#stop(); // A generator that has not begun has nothing to finish.
        return pieces.return();
      },
      [Symbol.asyncIterator]: () => iterator,
    };
    return iterator;
  }

  /** Kills the process and waits for its end; a detached one is let go. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop();
    if (!this.#request.isDetached) await this.#outcome.catch(() => {});
  }

  async *#read(): AsyncGenerator<ProcessOutput, void, undefined> {
    let isDone = false;
    try {
      for (;;) {
        const piece = await this.#output.next();
        if (piece === undefined) break;
        yield piece;
      }
      isDone = true;
      await this.#outcome;
    } finally {
      if (!isDone) this.#stop();
    }
  }

  async #run(): Promise<CommandResult> {
    const { deadline, check, shown, onResult, onError } = this.#request;
    const startedAtMs = performance.now();
    try {
      const stream = await this.#open();
      const cutShort = await awaitEndOrCut(stream, deadline);
      const exit = await this.#endOf(stream, cutShort);
      const circumstances = { timedOut: cutShort === "timeout", durationMs: performance.now() - startedAtMs };
      const result = commandResult(exit, this.#output.kept, circumstances);
      onResult?.(result);
      if (check && cutShort !== undefined) throw cutShortError(cutShort, result, deadline);
      if (check && !result.ok) throw commandFailed(shown, result);
      return result;
    } catch (error) {
      if (error !== this.#letGo) onError?.(error);
      throw error;
    } finally {
      this.#hasEnded = true;
      this.#output.finish();
      this.stdin.destroy();
    }
  }

  async #open(): Promise<ExecStream> {
    const { open, stdin } = this.#request;
    const stream = await open((name, data) => {
      const offset = Number(stream.offset) - data.length;
      return this.#output.push({ stream: name, data, offset });
    });
    this.#stream = stream;
    this.#opened.resolve(stream);
    if (stdin !== null && stdin !== "pipe") feedStdin(stream, stdin);
    return stream;
  }

  async #endOf(stream: ExecStream, cutShort: CutShort | undefined): Promise<ExecExit> {
    if (cutShort === undefined) return stream.exited;
    this.#output.release();
    if (!this.#request.isView) return killAndWait(stream);
    stream.detach(waitError(`Process "${this.#request.shown}"`, this.#request.deadline));
    return stream.exited;
  }

  /** Nobody wants the process any more, or this view of it. */
  #stop(): void {
    this.#output.collect();
    if (this.#hasEnded) return;
    if (this.#request.isDetached) this.detach();
    else this.kill("SIGKILL");
  }

  #act(action: (stream: ExecStream) => void): void {
    if (this.#stream !== undefined) action(this.#stream);
    else this.#opened.promise.then(action, () => {});
  }

  #makeStdin(isPiped: boolean): Writable {
    const opened = this.#opened.promise;
    const stdin = new Writable({
      write: (data: Buffer, _encoding, done) => {
        opened.then((stream) => stream.writeStdin(data)).then(() => done(), done);
      },
      final: (done) => {
        opened.then((stream) => stream.endStdin()).then(() => done(), done);
      },
    });
    // A process may end without reading its stdin; that is no failure of the program that wrote to it.
    stdin.on("error", () => {});
    if (!isPiped) stdin.destroy();
    return stdin;
  }
}

/** @throws {INVALID_CONFIG} unless both sides are whole numbers from 1 to 65 535. */
export function checkPtySize(size: PtySize, field = "pty"): void {
  for (const side of ["cols", "rows"] as const) {
    const value = size?.[side];
    if (!Number.isInteger(value) || value < 1 || value > PTY_SIDE_LIMIT) {
      throw invalidConfig({ field: `${field}.${side}`, value, expected: `a whole number from 1 to ${PTY_SIDE_LIMIT}` });
    }
  }
}
