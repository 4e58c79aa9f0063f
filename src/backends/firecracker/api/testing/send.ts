// Sends any request to any Firecracker, as it stands: also those that the client could not make.

import { Agent } from "node:http";
import { SmolVMError } from "../../../../errors/smolvm-error.js";
import { exchange } from "../exchange.js";
import type { ApiRequest } from "../requests.js";
import { toWire } from "../wire.js";

/** A request as Firecracker sees it. A body that is a string is sent as it is. */
export interface WireRequest {
  readonly method: string;
  readonly path: string;
  readonly body?: unknown;
}

export function asSent({ method, path, body }: ApiRequest<unknown>): WireRequest {
  // Through JSON, which leaves out what is undefined.
  return { method, path, ...(body === undefined ? {} : { body: JSON.parse(JSON.stringify(toWire(body))) }) };
}

/** What Firecracker makes of a request, over a connection of its own. `body` is undefined unless it is JSON. */
export async function send(socketPath: string, { method, path, body }: WireRequest) {
  const agent = new Agent({ keepAlive: false });
  const text = body === undefined || typeof body === "string" ? body : JSON.stringify(body);
  const outcome = await exchange(agent, socketPath, { method, path, body: text }).outcome;
  if (outcome.kind !== "answer")
    throw new SmolVMError("INTERNAL", `No answer to ${method} ${path}: ${JSON.stringify(outcome)}`);
  const answer = outcome.answer.body.toString("utf8");
  return { status: outcome.answer.status, body: answer.startsWith("{") ? safeJson(answer) : undefined };
}

function safeJson(text: string): Record<string, unknown> | undefined {
  try {
    return JSON.parse(text) as Record<string, unknown>;
  } catch {
    return undefined;
  }
}
