// A file of the guest as a stream of Node.js to write to. Writers are held back while the guest takes nothing.

import { Writable } from "node:stream";
import { Deadline } from "../../base/deadline.js";
import type { CallExchange } from "../call-exchange.js";
import type { FileCall, FileClient } from "./file-client.js";
import { checkWritten, writeFields } from "./file-content.js";
import { fileFailure } from "./file-failure.js";
import { checkEncoding, checkPosition, flagBits, type WriteStreamOptions } from "./file-options.js";
import type { GuestPath } from "./guest-path.js";
import { stopOnAbort } from "./guest-read-stream.js";

/** What is taken ahead unless asked otherwise, in bytes; as `fs.WriteStream` of Node.js. */
const HIGH_WATER_MARK_BYTES = 16 * 1024;

type Done = (error?: Error | null) => void;

export class GuestWriteStream extends Writable {
  readonly path: GuestPath;
  readonly #call: FileCall;
  readonly #stopped = new AbortController();
  /** Rejects when the file could not be opened for writing at all, or when there is no way to the guest. */
  readonly #opened: Promise<CallExchange>;
  #bytesWritten = 0;
  #isDone = false;

  /** @throws {INVALID_CONFIG} */
  constructor(client: FileClient, path: GuestPath, options: WriteStreamOptions) {
    const encoding = checkEncoding(options.encoding);
    super({
      highWaterMark: checkPosition("highWaterMark", options.highWaterMark) ?? HIGH_WATER_MARK_BYTES,
      ...(encoding === undefined ? {} : { defaultEncoding: encoding }),
    });
    this.path = path;
    const { mode, start } = options;
    const fields = writeFields(path, { mode, start, flags: flagBits(options.flags, "flags") });
    this.#call = { operation: "fs.write", syscall: "open", path, fields };
    stopOnAbort(this, "Writing to the guest", options.signal);
    const deadline = Deadline.after(options.timeoutMs ?? Number.POSITIVE_INFINITY, this.#stopped.signal);
    this.#opened = client.open(this.#call, deadline);
    void this.#watch();
  }

  /** How much the guest has been sent, in bytes. */
  get bytesWritten(): number {
    return this.#bytesWritten;
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: Done): void {
    void this.#send(chunk).then(() => done(), done);
  }

  override _writev(chunks: { readonly chunk: Buffer }[], done: Done): void {
    void this.#send(Buffer.concat(chunks.map(({ chunk }) => chunk))).then(() => done(), done);
  }

  override _final(done: Done): void {
    void this.#finish().then(() => done(), done);
  }

  override _destroy(error: Error | null, done: Done): void {
    if (!this.#isDone) this.#stopped.abort();
    done(error);
  }

  /** A guest that refuses says so whether or not anything is being written. */
  async #watch(): Promise<void> {
    try {
      await (await this.#opened).reply;
    } catch (error) {
      this.destroy(this.#failure(error));
    }
  }

  async #send(data: Buffer): Promise<void> {
    const exchange = await this.#opened.catch((error: unknown) => {
      throw this.#failure(error);
    });
    await exchange.write(data);
    this.#bytesWritten += data.length;
    // It ended while there was more to write: with an error of its own, or with one that the count shows.
    if (!exchange.isOpen) await this.#answered(exchange);
  }

  async #finish(): Promise<void> {
    const exchange = await this.#opened.catch((error: unknown) => {
      throw this.#failure(error);
    });
    exchange.end();
    await this.#answered(exchange);
    this.#isDone = true;
  }

  async #answered(exchange: CallExchange): Promise<void> {
    try {
      checkWritten((await exchange.reply).u64(21), this.#bytesWritten);
    } catch (error) {
      throw this.#failure(error);
    }
  }

  #failure(error: unknown): Error {
    return fileFailure(error, this.#call) as Error;
  }
}
