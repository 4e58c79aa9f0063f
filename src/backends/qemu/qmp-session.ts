// A conversation with QEMU over its monitor socket (QEMU's docs/interop/qmp-spec). QEMU serves one client at a time:
// another one's greeting waits until the first has left.

import { createConnection, type Socket } from "node:net";
import { createInterface } from "node:readline";
import type { Deadline } from "../../base/deadline.js";
import { type Deferred, deferred } from "../../base/deferred.js";
import { pollUntil } from "../../base/sleep.js";
import { within } from "../../base/within.js";
import { SmolVMError } from "../../errors/smolvm-error.js";
import { waitError } from "../../errors/wait-errors.js";

/** A command of the monitor. */
export interface QmpCommand {
  readonly execute: string;
  readonly arguments?: Readonly<Record<string, unknown>>;
}

/** Something that QEMU says without being asked. */
export interface QmpEvent {
  readonly event: string;
  readonly data: Readonly<Record<string, unknown>>;
}

/** What the monitor sends: a greeting, an answer or an event. */
interface QmpMessage {
  readonly return?: unknown;
  readonly error?: { readonly class?: unknown; readonly desc?: unknown } | null;
  readonly event?: unknown;
  readonly data?: unknown;
}

/** A command that has no answer yet. */
interface Pending {
  readonly command: QmpCommand;
  readonly answer: Deferred<unknown>;
}

/** Somebody who waits for an event. */
interface Watch {
  readonly matches: (event: QmpEvent) => boolean;
  readonly seen: Deferred<QmpEvent>;
}

/** The queue of a busy monitor's socket is full. */
const QUEUE_FULL = "EAGAIN";

export class QmpSession {
  readonly #socket: Socket;
  readonly #pending: Pending[] = [];
  readonly #watches = new Set<Watch>();
  #end: SmolVMError | undefined;

  private constructor(socket: Socket) {
    this.#socket = socket;
    const lines = createInterface({ input: socket });
    lines.on("error", () => {}); // The socket's own handler has it.
    lines.on("line", (line) => this.#receive(parse(line)));
    socket.on("error", (error) => this.#finish(hungUp(error)));
    socket.on("close", () => this.#finish(hungUp()));
  }

  /**
   * Connects, without waiting until QEMU has time for this client: commands can be sent at once, their answers come
   * then.
   *
   * @throws {CHANNEL_CLOSED} when no QEMU listens.
   * @throws {TIMEOUT} @throws {ABORTED}
   */
  static async open(socketPath: string, deadline: Deadline): Promise<QmpSession> {
    const socket = await pollUntil(() => connect(socketPath, deadline), deadline);
    if (socket === undefined) throw waitError("Connection to QEMU's monitor", deadline);
    const session = new QmpSession(socket);
    session.#send({ execute: "qmp_capabilities" }).catch(() => {}); // Its end is every later command's.
    return session;
  }

  /**
   * Sends a command. Several may be under way; QEMU does them in order. One that nobody waits for any more is done all
   * the same.
   *
   * @returns What it returned.
   * @throws {CHANNEL_CLOSED} when QEMU is gone or hangs up.
   * @throws {INTERNAL} when QEMU refuses it; details hold command, class and desc.
   * @throws {TIMEOUT} @throws {ABORTED}
   */
  execute(command: QmpCommand, deadline: Deadline): Promise<unknown> {
    return within(this.#send(command), deadline, () => {
      throw waitError(`QEMU monitor command "${command.execute}"`, deadline);
    });
  }

  /**
   * Looks out for an event from now on.
   *
   * @returns A function that waits for it, also if it came before the wait.
   */
  watch(matches: (event: QmpEvent) => boolean): (deadline: Deadline) => Promise<QmpEvent> {
    const watch: Watch = { matches, seen: deferred<QmpEvent>() };
    watch.seen.promise.catch(() => {});
    if (this.#end === undefined) this.#watches.add(watch);
    else watch.seen.reject(this.#end);
    return (deadline) =>
      within(watch.seen.promise, deadline, () => {
        throw waitError("QEMU event", deadline);
      });
  }

  /** Leaves. What is under way is done all the same. */
  close(): void {
    this.#socket.destroy();
    this.#finish(hungUp());
  }

  #send(command: QmpCommand): Promise<unknown> {
    if (this.#end !== undefined) return Promise.reject(this.#end);
    const answer = deferred<unknown>();
    this.#pending.push({ command, answer });
    this.#socket.write(`${JSON.stringify(command)}\n`);
    return answer.promise;
  }

  #receive(message: QmpMessage): void {
    if (typeof message.event === "string") {
      this.#announce({ event: message.event, data: isObject(message.data) ? message.data : {} });
    } else if (message.error !== undefined) {
      const pending = this.#pending.shift();
      pending?.answer.reject(refusal(pending.command, message.error));
    } else if ("return" in message) {
      this.#pending.shift()?.answer.resolve(message.return);
    }
  }

  #announce(event: QmpEvent): void {
    for (const watch of this.#watches) {
      if (!watch.matches(event)) continue;
      this.#watches.delete(watch);
      watch.seen.resolve(event);
    }
  }

  #finish(error: SmolVMError): void {
    if (this.#end !== undefined) return;
    this.#end = error;
    for (const { answer } of this.#pending.splice(0)) answer.reject(error);
    for (const { seen } of this.#watches) seen.reject(error);
    this.#watches.clear();
  }
}

/** @returns The connected socket, or `undefined` when so many wait already that QEMU's socket takes no more. */
async function connect(path: string, deadline: Deadline): Promise<Socket | undefined> {
  const socket = createConnection(path);
  const connected = deferred<Socket | undefined>();
  socket.once("connect", () => connected.resolve(socket));
  socket.once("error", (error: NodeJS.ErrnoException) => {
    if (error.code === QUEUE_FULL) connected.resolve(undefined);
    else connected.reject(hungUp(error));
  });
  return within(connected.promise, deadline, () => {
    socket.destroy();
    return undefined;
  });
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}

function parse(line: string): QmpMessage {
  try {
    const message: unknown = JSON.parse(line);
    return isObject(message) ? message : {};
  } catch {
    return {};
  }
}

function hungUp(cause?: unknown): SmolVMError {
  return new SmolVMError("CHANNEL_CLOSED", "QEMU's monitor is not there or hung up", { cause });
}

function refusal(command: QmpCommand, error: QmpMessage["error"]): SmolVMError {
  return new SmolVMError("INTERNAL", `QEMU refused "${command.execute}": ${error?.desc}`, {
    details: { command, class: error?.class, desc: error?.desc },
  });
}
