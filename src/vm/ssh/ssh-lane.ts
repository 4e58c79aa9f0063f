// A channel of an SSH connection as a stream of its own: its end is the connection's, and it keeps the program alive
// only where it is told to.

import type { Socket } from "node:net";
import { Duplex } from "node:stream";

/** The socket below the connection, and the channel in it. */
export interface SshLaneParts {
  readonly socket: Socket;
  readonly channel: Duplex;
}

export class SshLane extends Duplex {
  readonly #socket: Socket;
  readonly #channel: Duplex;

  constructor({ socket, channel }: SshLaneParts) {
    super();
    this.#socket = socket;
    this.#channel = channel;
    channel.on("data", (chunk: Buffer) => {
      if (!this.push(chunk)) channel.pause();
    });
    channel.on("end", () => this.push(null));
    channel.on("error", (error: Error) => this.destroy(error));
    channel.on("close", () => this.destroy());
    socket.on("close", () => this.destroy());
  }

  ref(): void {
    this.#socket.ref();
  }

  unref(): void {
    this.#socket.unref();
  }

  override _read(): void {
    this.#channel.resume();
  }

  override _write(chunk: Buffer, encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#channel.write(chunk, encoding, done);
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#channel.end(done);
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    // Not the protocol's farewell: the guest need not be there to answer it.
    this.#socket.destroy();
    done(error);
  }
}
