// The content of a file of the guest as a stream of Node.js. The guest is held back while nobody reads.

import { Readable } from "node:stream";
import { Deadline } from "../../base/deadline.js";
import { invalidConfig } from "../../errors/invalid-config.js";
import { abortedError } from "../../errors/wait-errors.js";
import type { CallExchange } from "../call-exchange.js";
import { FieldWriter } from "../fields.js";
import { violation } from "../violation.js";
import type { FileCall, FileClient } from "./file-client.js";
import { fileFailure } from "./file-failure.js";
import { checkEncoding, checkPosition, type ReadStreamOptions } from "./file-options.js";
import { type GuestPath, guestPath } from "./guest-path.js";

/** What is read ahead unless asked otherwise, in bytes; as `fs.ReadStream` of Node.js. */
const HIGH_WATER_MARK_BYTES = 64 * 1024;

export class GuestReadStream extends Readable {
  readonly path: GuestPath;
  readonly #call: FileCall;
  readonly #lengthBytes: number;
  readonly #stopped = new AbortController();
  #bytesRead = 0;
  #exchange: CallExchange | undefined;
  /** Lets the guest go on. */
  #resume: (() => void) | undefined;

  /** @throws {INVALID_CONFIG} */
  constructor(client: FileClient, path: GuestPath, options: ReadStreamOptions) {
    const start = checkPosition("start", options.start) ?? 0;
    const end = options.end === Number.POSITIVE_INFINITY ? undefined : checkPosition("end", options.end);
    if (end !== undefined && end < start) {
      throw invalidConfig({ field: "end", value: end, expected: `at least start, ${start}` });
    }
    const encoding = checkEncoding(options.encoding);
    super({
      highWaterMark: checkPosition("highWaterMark", options.highWaterMark) ?? HIGH_WATER_MARK_BYTES,
      ...(encoding === undefined ? {} : { encoding }),
    });
    this.path = path;
    this.#lengthBytes = end === undefined ? Number.POSITIVE_INFINITY : end - start + 1;
    const fields = new FieldWriter()
      .bytes(10, guestPath(path))
      .u64(19, BigInt(start))
      .u64(33, end === undefined ? undefined : BigInt(this.#lengthBytes));
    this.#call = { operation: "fs.read", syscall: "open", path, fields };
    stopOnAbort(this, "Reading from the guest", options.signal);
    void this.#run(client, Deadline.after(options.timeoutMs ?? Number.POSITIVE_INFINITY, this.#stopped.signal));
  }

  /** How much has come from the guest, in bytes. */
  get bytesRead(): number {
    return this.#bytesRead;
  }

  override _read(): void {
    this.#letGuestOn();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#stopped.abort();
    this.#letGuestOn();
    done(error);
  }

  async #run(client: FileClient, deadline: Deadline): Promise<void> {
    try {
      const onData = (data: Buffer) => this.#take(data);
      this.#exchange = await client.open({ ...this.#call, onData }, deadline);
      await this.#exchange.reply;
      this.push(null);
    } catch (error) {
      this.destroy(fileFailure(error, this.#call) as Error);
    }
  }

  #take(data: Buffer): void | Promise<void> {
    this.#bytesRead += data.length;
    if (this.#bytesRead > this.#lengthBytes) throw violation(`more than the ${this.#lengthBytes} bytes asked for`);
    if (this.destroyed || this.push(data)) return undefined;
    return new Promise((resolve) => {
      this.#resume = resolve;
    });
  }

  #letGuestOn(): void {
    this.#resume?.();
    this.#resume = undefined;
  }
}

/** Destroys a stream with `ABORTED` when the signal fires. */
export function stopOnAbort(
  stream: { destroy(error: Error): unknown; once(event: "close", listener: () => void): unknown },
  action: string,
  signal: AbortSignal | undefined,
): void {
  if (signal === undefined) return;
  const stop = () => stream.destroy(abortedError(action, signal));
  if (signal.aborted) {
    stop();
    return;
  }
  signal.addEventListener("abort", stop, { once: true });
  stream.once("close", () => signal.removeEventListener("abort", stop));
}
