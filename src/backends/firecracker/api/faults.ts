// What can go wrong with a request to Firecracker, as our errors. Its texts come from a process that a guest may have
// taken over: they are bounded and printable.

import { SmolVMError } from "../../../errors/smolvm-error.js";
import type { HttpAnswer } from "./exchange.js";
import type { ApiRequest } from "./requests.js";

/** Longest text of Firecracker's that is kept, in characters. */
const FAULT_LIMIT = 2_000;
/** Errors of a connection that nobody is behind, or nobody any more (connect(2), write(2)). */
const GONE = ["ENOENT", "ECONNREFUSED", "ECONNRESET", "EPIPE"];
/** What node:http calls bytes that are no HTTP. */
const NO_HTTP = /^HPE_/;

export function nameOf({ method, path }: ApiRequest<unknown>): string {
  return `${method} ${path}`;
}

/** Firecracker's reason for a refusal, or `undefined` when it gave none as it promises to. */
export function faultIn(body: Buffer): string | undefined {
  const value = parseJson(body);
  if (typeof value !== "object" || value === null || !("fault_message" in value)) return undefined;
  return typeof value.fault_message === "string" ? value.fault_message : undefined;
}

/** JSON, or `undefined` for anything else. */
export function parseJson(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString("utf8"));
  } catch {
    return undefined;
  }
}

/** Firecracker understood and did not do it. The code is the request's own, for the status is always 400. */
export function refused(request: ApiRequest<unknown>, { status, body }: HttpAnswer): SmolVMError {
  const fault = printable(faultIn(body) ?? body.toString("utf8"));
  return new SmolVMError(request.refusal, `Firecracker refused "${nameOf(request)}": ${fault}`, {
    details: { request: nameOf(request), status, fault },
  });
}

/** The connection did not bring an answer: the VMM has ended, was never there, or cannot be reached. */
export function failed(request: ApiRequest<unknown>, socketPath: string, error: NodeJS.ErrnoException): SmolVMError {
  const reason = error.code ?? error.message;
  if (NO_HTTP.test(reason)) return unreadable(request, `it is no HTTP (${reason})`, error);
  const extras = { details: { request: nameOf(request), path: socketPath, reason }, cause: error };
  if (GONE.includes(reason)) {
    const message = `Firecracker ended before it answered "${nameOf(request)}", or does not listen (${reason})`;
    return new SmolVMError("CHANNEL_CLOSED", message, {
      ...extras,
      hint: "Its own log and exit code say why; a VM whose VMM ended has to be started again.",
    });
  }
  return new SmolVMError("STORAGE_FAILED", `Cannot reach Firecracker at "${socketPath}": ${reason}`, extras);
}

/** True when nobody listens on the socket: not yet, or not any more. Nothing was sent. */
export function isNotThere({ code, details }: SmolVMError): boolean {
  return code === "CHANNEL_CLOSED" && (details["reason"] === "ENOENT" || details["reason"] === "ECONNREFUSED");
}

/** An answer that no Firecracker gives. */
export function unreadable(request: ApiRequest<unknown>, why: string, cause?: unknown): SmolVMError {
  return new SmolVMError("PROTOCOL_ERROR", `Firecracker's answer to "${nameOf(request)}" is not its API's: ${why}`, {
    details: { request: nameOf(request) },
    cause,
    hint: "Check its version with `smolvm doctor`; otherwise treat the VM as hostile: delete it.",
  });
}

/** Others hold all the connections that Firecracker's server has. */
export function allTaken(request: ApiRequest<unknown>): SmolVMError {
  return new SmolVMError(
    "BUSY",
    `Cannot send "${nameOf(request)}": all connections of the VM's Firecracker are taken`,
    {
      details: { request: nameOf(request) },
    },
  );
}

function printable(text: string): string {
  const cut = text.length > FAULT_LIMIT ? `${text.slice(0, FAULT_LIMIT)}...` : text;
  return cut.replaceAll(/\p{Cc}+/gu, " ").trim();
}
