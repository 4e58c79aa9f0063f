// One HTTP exchange with Firecracker over a unix socket: a request goes out whole, an answer comes back whole or not at
// all. What either of them means is not known here.

import { type Agent, type IncomingMessage, request as startRequest } from "node:http";
import { type Deferred, deferred } from "../../../base/deferred.js";

/** Longest answer that is read, in bytes. The longest that there is, a configuration, has some 10 KiB. */
export const ANSWER_LIMIT_BYTES = 1024 * 1024;

export interface HttpMessage {
  readonly method: string;
  readonly path: string;
  /** JSON. */
  readonly body: string | undefined;
}

export interface HttpAnswer {
  readonly status: number;
  readonly body: Buffer;
}

/** How an exchange ended. */
export type Outcome =
  | { readonly kind: "answer"; readonly answer: HttpAnswer }
  /** The connection failed; `isFresh`: it had carried nothing before. */
  | { readonly kind: "failure"; readonly error: NodeJS.ErrnoException; readonly isFresh: boolean }
  | { readonly kind: "too-long" };

/** An exchange that is under way. */
export interface Exchange {
  /** Never rejects. */
  readonly outcome: Promise<Outcome>;
  /** Gives up. Takes the connection along, for the answer would come over it. */
  cut(): void;
}

export function exchange(agent: Agent, socketPath: string, { method, path, body }: HttpMessage): Exchange {
  const outcome = deferred<Outcome>();
  // With its length: Firecracker's server does not know chunks.
  const headers =
    body === undefined ? {} : { "content-type": "application/json", "content-length": Buffer.byteLength(body) };
  const sending = startRequest({
    agent,
    socketPath,
    method,
    path,
    headers: { ...headers, accept: "application/json" },
  });
  const fail = (error: NodeJS.ErrnoException) =>
    outcome.resolve({ kind: "failure", error, isFresh: !sending.reusedSocket });
  sending.on("error", fail);
  sending.on("response", (answer) => collect(answer, outcome, fail));
  sending.end(body);
  return { outcome: outcome.promise, cut: () => sending.destroy() };
}

function collect(message: IncomingMessage, outcome: Deferred<Outcome>, fail: (error: Error) => void): void {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  message.on("error", fail); // Also an answer that is cut short.
  message.on("data", (chunk: Buffer) => {
    sizeBytes += chunk.length;
    if (sizeBytes <= ANSWER_LIMIT_BYTES) {
      chunks.push(chunk);
      return;
    }
    outcome.resolve({ kind: "too-long" });
    message.destroy();
  });
  message.on("end", () => {
    outcome.resolve({ kind: "answer", answer: { status: message.statusCode ?? 0, body: Buffer.concat(chunks) } });
  });
}
