// Calls the guest's `fs.*` operations and says their failures in the caller's words.

import { Deadline, type WaitOptions } from "../../base/deadline.js";
import { waitError } from "../../errors/wait-errors.js";
import type { CallExchange } from "../call-exchange.js";
import type { GuestConnection } from "../connection.js";
import type { FieldReader, FieldWriter } from "../fields.js";
import { type FileOperation, fileFailure } from "./file-failure.js";
import { shown } from "./guest-path.js";

/** Limit of an operation that moves no content, unless its caller gives one, in milliseconds. */
export const SMALL_TIMEOUT_MS = 30_000;

/** Gives an open connection to the VM's agent. */
export type Connect = (deadline: Deadline) => Promise<GuestConnection>;

/** One call of the protocol, and what it is for. */
export interface FileCall extends FileOperation {
  /** Name in the protocol, e.g. `"fs.stat"`. */
  readonly operation: string;
  readonly fields: FieldWriter;
}

/** A call that gives data. */
export interface DataCall extends FileCall {
  readonly onData: (data: Buffer) => void | Promise<void>;
}

export class FileClient {
  readonly #connect: Connect;

  constructor(connect: Connect) {
    this.#connect = connect;
  }

  /**
   * A call without data, within 30 s unless its caller says otherwise.
   *
   * @throws A `GuestFileError` when the guest refused.
   */
  async call(call: FileCall, options: WaitOptions | undefined): Promise<FieldReader> {
    const deadline = Deadline.from(options, SMALL_TIMEOUT_MS);
    const connection = await this.#connected(call, deadline);
    try {
      return await connection.call(call.operation, call.fields, deadline);
    } catch (error) {
      throw fileFailure(error, call);
    }
  }

  /** A call that gives data, which has been consumed when this resolves. */
  async receive(call: DataCall, deadline: Deadline): Promise<FieldReader> {
    const exchange = await this.open(call, deadline);
    try {
      return await exchange.reply;
    } catch (error) {
      throw fileFailure(error, call);
    }
  }

  /** A call that carries data; its reply rejects with the guest's own refusal. */
  async open(call: FileCall & Partial<DataCall>, deadline: Deadline): Promise<CallExchange> {
    const connection = await this.#connected(call, deadline);
    return connection.exchange(call.operation, call.fields, { deadline, onData: call.onData });
  }

  /** The guest hears nothing of a call that is over before it began. */
  async #connected({ syscall, path }: FileCall, deadline: Deadline): Promise<GuestConnection> {
    const connection = deadline.isAborted ? undefined : await this.#connect(deadline);
    if (connection !== undefined && !deadline.isAborted && !deadline.hasExpired) return connection;
    throw waitError(`Guest operation "${syscall}" of ${JSON.stringify(shown(path))}`, deadline);
  }
}
