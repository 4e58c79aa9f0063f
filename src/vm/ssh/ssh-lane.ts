// A channel of an SSH connection as a stream of its own: its end is the connection's, and it keeps the program alive
// only where it is told to.

import type { Socket } from "node:net";
import { Duplex, type Readable } from "node:stream";
import { violation } from "../../guest/violation.js";

/** The socket below the connection, and the channel in it. */
export interface SshLaneParts {
  readonly socket: Socket;
  readonly channel: Duplex & { readonly stderr: Readable };
}

/** Most that waits for its reader, in bytes: several windows of ssh2 (2 MiB). */
const UNREAD_LIMIT_BYTES = 16 * 1024 * 1024;

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
    // ssh2 keeps what a server sends beyond its window, without a bound.
    socket.on("data", () => {
      if (channel.readableLength > UNREAD_LIMIT_BYTES) this.destroy(violation("more data than its window"));
    });
    // A socket has no errors to say: the agent's never says any, and what nobody reads would pile up.
    channel.stderr.on("data", () => this.destroy(violation("data on the error output of a socket")));
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
