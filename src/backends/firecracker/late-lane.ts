// A lane that is there before its guest listens: what is written waits for the connection.

import type { Socket } from "node:net";
import { Duplex } from "node:stream";

type Done = (error?: Error | null) => void;

/** Connects; `signal` ends the attempt when nobody wants the lane any more. */
export type Connect = (signal: AbortSignal) => Promise<Socket>;

export class LateLane extends Duplex {
  readonly #given = new AbortController();
  readonly #socket: Promise<Socket>;
  #connected: Socket | undefined;
  /** Whoever waits for something on it holds the program; a lane that nobody took does not. */
  #holdsProgram = false;

  constructor(connect: Connect) {
    super({ allowHalfOpen: true });
    this.on("error", () => {}); // Also while nobody listens yet: that the VMM ended is no news here.
    this.#socket = connect(this.#given.signal);
    this.#socket.then(
      (socket) => this.#adopt(socket),
      (error: Error) => this.destroy(error),
    );
  }

  ref(): void {
    this.#holdsProgram = true;
    this.#connected?.ref();
  }

  unref(): void {
    this.#holdsProgram = false;
    this.#connected?.unref();
  }

  override _read(): void {
    this.#connected?.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: Done): void {
    this.#withSocket(done, (socket) => socket.write(chunk, done));
  }

  override _writev(chunks: readonly { readonly chunk: Buffer }[], done: Done): void {
    this.#withSocket(done, (socket) => socket.write(Buffer.concat(chunks.map(({ chunk }) => chunk)), done));
  }

  override _final(done: Done): void {
    this.#withSocket(done, (socket) => socket.end(done));
  }

  override _destroy(error: Error | null, done: Done): void {
    this.#given.abort();
    this.#connected?.destroy();
    done(error);
  }

  #withSocket(done: Done, act: (socket: Socket) => void): void {
    if (this.#connected !== undefined) act(this.#connected);
    else this.#socket.then(act, done);
  }

  #adopt(socket: Socket): void {
    if (this.destroyed) {
      socket.destroy();
      return;
    }
    this.#connected = socket;
    if (!this.#holdsProgram) socket.unref();
    socket.on("data", (chunk: Buffer) => {
      if (!this.push(chunk)) socket.pause();
    });
    socket.on("end", () => this.push(null));
    socket.on("error", (error) => this.destroy(error));
    socket.on("close", () => this.destroy());
  }
}
