// A channel of an SSH connection as a stream of its own: its end is the connection's, and it keeps the program alive
// only where it is told to.

import type { Socket } from "node:net";
import { Duplex, type Readable } from "node:stream";
import type { Client } from "ssh2";
import { SmolVMError } from "../../errors/smolvm-error.js";
import { violation } from "../../guest/violation.js";

/** The connection, the socket below it, and the channel in it. */
export interface SshLaneParts {
  readonly socket: Socket;
  readonly client: Client;
  readonly channel: Duplex & { readonly stderr: Readable };
}

/** ssh2's window, in bytes (MAX_WINDOW in its lib/Channel.js). */
const WINDOW_BYTES = 2 * 1024 * 1024;
/** Most that waits for its reader, in bytes: ssh2 opens a new window while less than one waits. */
const UNREAD_LIMIT_BYTES = 2 * WINDOW_BYTES;
/** Most that is given to ssh2 at once, in bytes: it takes whatever the server's window allows, up to 4 GiB. */
const PIECE_BYTES = 256 * 1024;

type Done = (error?: Error | null) => void;

export class SshLane extends Duplex {
  readonly #socket: Socket;
  readonly #client: Client;
  readonly #channel: Duplex;

  constructor({ socket, client, channel }: SshLaneParts) {
    super();
    this.#socket = socket;
    this.#client = client;
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
    socket.on("error", (error) => {
      if (error instanceof SmolVMError) this.destroy(error);
    });
    socket.on("close", () => this.destroy());
    // What comes first of the two is nobody's to choose: the socket may be gone already.
    if (socket.destroyed) this.destroy(socket.errored instanceof SmolVMError ? socket.errored : undefined);
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

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: Done): void {
    const piece = chunk.subarray(0, PIECE_BYTES);
    const rest = chunk.subarray(PIECE_BYTES);
    const next = () => (rest.length > 0 ? this._write(rest, _encoding, done) : done());
    const before = this.#socket.bytesWritten;
    this.#channel.write(piece, (error) => {
      if (error) return done(error);
      // ssh2 says that it is done when it has no window to wait for, whether or not anything leaves this host. While
      // keys are exchanged it keeps everything, and while the server does not read, the socket does.
      if (this.#socket.bytesWritten - before < piece.length) this.#client.once("handshake", () => this.#whenSent(next));
      else this.#whenSent(next);
    });
  }

  #whenSent(next: () => void): void {
    if (this.#socket.writableNeedDrain) this.#socket.once("drain", next);
    else next();
  }

  override _final(done: Done): void {
    this.#channel.end(done);
  }

  override _destroy(error: Error | null, done: Done): void {
    // Not the protocol's farewell: the guest need not be there to answer it.
    this.#socket.destroy();
    done(error);
  }
}
