// The client of one Firecracker process: one connection, kept alive; requests go out one after the other. Nothing is
// ever sent twice that may have been done once.

import { Agent } from "node:http";
import { createConnection } from "node:net";
import { Deadline } from "../../../base/deadline.js";
import { pollUntil } from "../../../base/sleep.js";
import { Slots } from "../../../base/slots.js";
import { within } from "../../../base/within.js";
import { isSmolVMError, SmolVMError } from "../../../errors/smolvm-error.js";
import { waitError } from "../../../errors/wait-errors.js";
import type { InstanceInfo } from "./answers.js";
import { exchange, type HttpAnswer } from "./exchange.js";
import { allTaken, failed, faultIn, isNotThere, nameOf, parseJson, refused, unreadable } from "./faults.js";
import { type ApiRequest, getInstance } from "./requests.js";
import { fromWire, toWire } from "./wire.js";

/** Longest pause between two looks whether a VMM listens, in milliseconds: it does some 10 ms after its start. */
const GREET_PAUSE_MS = 4;
/** Firecracker's server holds ten connections and tells the next one so (micro_http: MAX_CONNECTIONS). */
const STATUS_ALL_TAKEN = 503;

export class ApiClient {
  readonly #socketPath: string;
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 1 });
  readonly #turn = new Slots(1);
  #isClosed = false;

  /** Connects with the first call. An idle connection does not keep the program alive, but it is one of ten. */
  constructor(socketPath: string) {
    this.#socketPath = socketPath;
  }

  /**
   * Waits until a VMM that was just started listens.
   *
   * @param hasEnded Says that it never will.
   * @returns What it says of itself.
   * @throws {CHANNEL_CLOSED} when it has ended.
   * @throws {TIMEOUT} @throws {ABORTED}
   */
  async greet(deadline: Deadline, hasEnded: () => boolean = () => false): Promise<InstanceInfo> {
    const info = await pollUntil(
      async () => {
        const isLastLook = hasEnded(); // Asked first: it may have listened, and ended since.
        try {
          return await this.call(getInstance(), deadline);
        } catch (error) {
          if (isLastLook || !isSmolVMError(error) || !isNotThere(error)) throw error;
          return undefined;
        }
      },
      deadline,
      GREET_PAUSE_MS,
    );
    if (info === undefined) throw waitError("Start of Firecracker", deadline);
    return info;
  }

  /**
   * Sends a request when those before it are done. A call that is given up while Firecracker works on it is done all
   * the same; the next one waits for that.
   *
   * @param deadline By default the request's own limit.
   * @throws {CHANNEL_CLOSED} when the VMM has ended.
   * @throws {PROTOCOL_ERROR} when the answer is none of Firecracker's.
   * @throws {BUSY} when others hold all of its connections until the deadline.
   * @throws {TIMEOUT} @throws {ABORTED}
   * @throws the request's `refusal` when Firecracker refuses; details hold request, status and fault.
   */
  call<Answer>(request: ApiRequest<Answer>, deadline = Deadline.after(request.limitMs)): Promise<Answer> {
    let wasTurnedAway = false;
    const late = () => {
      if (wasTurnedAway && !deadline.isAborted) throw allTaken(request);
      throw waitError(`Firecracker request "${nameOf(request)}"`, deadline);
    };
    return this.#turn.run(deadline, late, async () => {
      if (deadline.isAborted || deadline.hasExpired) late();
      const look = async () => {
        const answer = await this.#attempt(request, deadline, late);
        wasTurnedAway = answer === undefined;
        return answer;
      };
      const answer = await pollUntil(look, deadline);
      return answer === undefined ? late() : this.#read(request, answer);
    });
  }

  /** Hangs up; closing twice is fine. A call under way fails, and what it asked for may be done. */
  close(): void {
    this.#isClosed = true;
    this.#agent.destroy();
  }

  /** @returns `undefined` when the server had no connection left for us. */
  async #attempt(request: ApiRequest<unknown>, deadline: Deadline, late: () => never): Promise<HttpAnswer | undefined> {
    this.#mustBeOpen(request);
    const { method, path } = request;
    const body = request.body === undefined ? undefined : JSON.stringify(toWire(request.body));
    const { outcome, cut } = exchange(this.#agent, this.#socketPath, { method, path, body });
    const end = await within(outcome, deadline, () => {
      cut();
      return late();
    });
    if (end.kind === "answer" && end.answer.status !== STATUS_ALL_TAKEN) return end.answer;
    this.#hangUp();
    this.#mustBeOpen(request);
    if (end.kind === "answer") return undefined;
    if (end.kind === "too-long") throw unreadable(request, "it is too long");
    // A server that is full may have hung up before it read anything; so does one that ended, but that listens no more.
    const wasTurnedAway = end.isFresh && (end.error.code === "EPIPE" || end.error.code === "EAGAIN");
    if (wasTurnedAway && (await isListening(this.#socketPath, deadline))) return undefined;
    throw failed(request, this.#socketPath, end.error);
  }

  #read<Answer>(request: ApiRequest<Answer>, { status, body }: HttpAnswer): Answer {
    try {
      return read(request, { status, body });
    } catch (error) {
      // Its server cannot go on after bytes that it did not understand, and says that in another form.
      if (faultIn(body) === undefined) this.#hangUp();
      throw error;
    }
  }

  #mustBeOpen(request: ApiRequest<unknown>): void {
    if (!this.#isClosed) return;
    throw new SmolVMError("CHANNEL_CLOSED", `Cannot send "${nameOf(request)}": the client was closed`);
  }

  /** The next call makes a new connection. */
  #hangUp(): void {
    this.#agent.destroy();
  }
}

function read<Answer>(request: ApiRequest<Answer>, { status, body }: HttpAnswer): Answer {
  if (status >= 400) throw refused(request, { status, body });
  const expected = request.answer === undefined ? 204 : 200;
  if (status !== expected) throw unreadable(request, `status ${status} where ${expected} was expected`);
  if (request.answer === undefined) return undefined as Answer;
  const checked = request.answer.safeParse(fromWire(parseJson(body)));
  if (!checked.success) throw unreadable(request, "its shape is another", checked.error);
  return checked.data;
}

/** Whether a process listens on a socket, be it with no time for us; it does unless that is seen to be untrue. */
function isListening(socketPath: string, deadline: Deadline): Promise<boolean> {
  const socket = createConnection(socketPath);
  const answer = new Promise<boolean>((resolve) => {
    socket.once("connect", () => resolve(true));
    socket.once("error", (error: NodeJS.ErrnoException) => resolve(error.code === "EAGAIN"));
  });
  return within(answer, deadline, () => true).finally(() => socket.destroy());
}
