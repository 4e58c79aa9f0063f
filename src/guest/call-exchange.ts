// A call that carries data, both ways within credit, on its way to its answer.

import type { Deadline } from "../base/deadline.js";
import { type Deferred, deferred } from "../base/deferred.js";
import { within } from "../base/within.js";
import type { SmolVMError } from "../errors/smolvm-error.js";
import { waitError } from "../errors/wait-errors.js";
import { ByteReceiver, type OutputStream } from "./byte-receiver.js";
import { ByteSender } from "./byte-sender.js";
import { FieldReader } from "./fields.js";
import type { Frame } from "./frame.js";
import { GuestRefusal } from "./guest-refusal.js";
import { type ClientStream, KILL_LIMIT_MS, type StreamTransport } from "./stream-transport.js";
import { violation } from "./violation.js";

/** How a call with data is made. */
export interface ExchangeOptions {
  readonly deadline: Deadline;
  /** Takes data as it comes; a promise holds the guest back. What it throws cancels the call and is the caller's error. */
  readonly onData?: ((data: Buffer, channel: OutputStream) => void | Promise<void>) | undefined;
}

export class CallExchange implements ClientStream {
  readonly holdsProgram = true;
  readonly #id: number;
  readonly #operation: string;
  readonly #transport: StreamTransport;
  readonly #sender: ByteSender;
  readonly #receiver: ByteReceiver;
  readonly #answer: Deferred<FieldReader> = deferred();
  readonly #reply: Promise<FieldReader>;
  #killTimer: NodeJS.Timeout | undefined;
  /** What made us cancel it: the caller's error then, whatever the agent says. */
  #reason: { readonly error: unknown } | undefined;
  #isOpen = true;

  /** @param operation Its name, for messages. */
  constructor(id: number, operation: string, transport: StreamTransport, options: ExchangeOptions) {
    const { deadline, onData } = options;
    this.#id = id;
    this.#operation = operation;
    this.#transport = transport;
    this.#sender = new ByteSender(id, transport);
    const sink = (channel: OutputStream, data: Buffer) => {
      if (onData === undefined) throw violation(`data for call "${operation}", which takes none`);
      if (this.#reason === undefined) return onData(data, channel);
      return undefined;
    };
    this.#receiver = new ByteReceiver(id, transport, sink, (error) => this.#giveUp(error));
    this.#reply = this.#wait(deadline);
    this.#reply.catch(() => {}); // Whoever awaits it sees the error; nobody need.
  }

  /** Sends data, waiting for the guest to take it. It is dropped once the call has ended. */
  write(data: Uint8Array): Promise<void> {
    return this.#sender.write(data);
  }

  /** Says that no more data comes. */
  end(): void {
    this.#sender.end();
  }

  /** Lets the operation stop as soon as it can; {@link reply} says what became of it. */
  cancel(): void {
    if (!this.#isOpen || this.#killTimer !== undefined) return;
    this.#transport.send({ name: "kill", stream: this.#id });
    this.#sender.close();
    this.#killTimer = setTimeout(
      () => this.#transport.close(`it did not confirm within ${KILL_LIMIT_MS} ms that a call was cancelled`),
      KILL_LIMIT_MS,
    ).unref();
  }

  /** Whether the guest still takes data. */
  get isOpen(): boolean {
    return this.#sender.isOpen;
  }

  /**
   * The answer, once all data was consumed.
   *
   * Rejects with a {@link GuestRefusal}, with `TIMEOUT` or `ABORTED` after cancelling, with `CHANNEL_CLOSED`, or with what
   * `onData` threw.
   */
  get reply(): Promise<FieldReader> {
    return this.#reply;
  }

  accept(frame: Frame): boolean {
    switch (frame.name) {
      case "data":
        this.#receiver.accept(frame);
        return false;
      case "end":
        return false;
      case "credit":
        this.#sender.acceptCredit(frame);
        return false;
      case "reply": {
        const fields = new FieldReader(frame.payload);
        this.#end();
        // Once given up, data was dropped: what the agent finished all the same is of no use.
        if (this.#reason !== undefined) this.#answer.reject(this.#reason.error);
        else this.#receiver.inOrder(() => this.#settle(fields));
        return true;
      }
      default:
        throw violation(`frame ${frame.name} does not belong to a call`);
    }
  }

  refuse(errno: string, message: string): void {
    this.fail(new GuestRefusal(this.#operation, errno, message));
  }

  fail(error: SmolVMError): void {
    this.#end();
    this.#answer.reject(this.#reason === undefined ? error : this.#reason.error);
  }

  #settle(fields: FieldReader): void {
    if (this.#reason === undefined) this.#answer.resolve(fields);
    else this.#answer.reject(this.#reason.error);
  }

  async #wait(deadline: Deadline): Promise<FieldReader> {
    const answered = this.#answer.promise;
    return await within(answered, deadline, () => {
      this.#giveUp(waitError(`Guest operation "${this.#operation}"`, deadline));
      return answered; // The agent first undoes what it was doing.
    });
  }

  #giveUp(error: unknown): void {
    this.#reason ??= { error };
    this.cancel();
    // A sink that failed consumes nothing more: an answer that came already would wait for it for ever.
    if (!this.#isOpen) this.#answer.reject(error);
  }

  #end(): void {
    this.#isOpen = false;
    clearTimeout(this.#killTimer);
    this.#sender.close();
    this.#receiver.close();
  }
}
