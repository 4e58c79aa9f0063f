// A Firecracker for tests, without KVM and without a guest: an HTTP server on a unix socket that refuses what the
// description (description-1.16.json) or the rules (rules.ts) refuse, and keeps account of what it was asked.

import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { faultOf } from "./check-body.js";
import { findRequest } from "./description.js";
import { type Body, Machine, type Result } from "./machine.js";
import { BODY_LIMIT_BYTES, CONNECTION_LIMIT, ID, LINE_LIMIT_BYTES, RULES, type Rule } from "./rules.js";
import type { WireRequest } from "./send.js";

export interface FirecrackerDouble {
  readonly socketPath: string;
  readonly machine: Machine;
  /** All requests so far. */
  readonly heard: readonly WireRequest[];
  /** Connections so far that were not turned away. */
  readonly connectionCount: () => number;
  readonly hasEnded: () => boolean;
  /** As if its process had ended. */
  end(): Promise<void>;
}

/** An answer to be sent. */
interface Reply {
  readonly status: number;
  readonly body?: unknown;
}

const METHODS = ["GET", "PUT", "PATCH", "DELETE"];

export async function firecrackerDouble(socketPath: string): Promise<FirecrackerDouble> {
  const machine = new Machine();
  const heard: WireRequest[] = [];
  const open = new Set<Socket>();
  let [connectionCount, isConfigured, hasEnded] = [0, false, false];

  const server = createServer((request, response) => {
    serve(request, response).catch((error: unknown) => response.destroy(error as Error));
  });
  server.on("connection", (socket: Socket) => {
    if (open.size >= CONNECTION_LIMIT) {
      socket.end("HTTP/1.1 503\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}");
      return;
    }
    connectionCount += 1;
    open.add(socket);
    socket.on("close", () => open.delete(socket));
  });
  const end = async () => {
    if (hasEnded) return;
    hasEnded = true;
    machine.end();
    for (const socket of open) socket.destroy();
    server.close();
    await once(server, "close");
  };

  const serve = async (request: IncomingMessage, response: ServerResponse) => {
    if (!open.has(request.socket)) return; // It was turned away.
    const early = protocolFault(request);
    if (early !== undefined) {
      // Another form than that of a refusal, and no JSON: micro_http/src/server.rs, ClientConnection::read.
      response.writeHead(400, { connection: "close" }).end(`{ "error": "${early}\n." }`);
      return;
    }
    const text = await readAll(request);
    const wire = {
      method: request.method ?? "",
      path: request.url ?? "",
      ...(text === "" ? {} : { body: json(text) }),
    };
    heard.push(wire);
    const { reply, isLast } = await judge(wire);
    if (reply.body === undefined) response.writeHead(reply.status).end();
    else response.writeHead(reply.status, { "content-type": "application/json" }).end(JSON.stringify(reply.body));
    if (isLast) response.on("finish", () => void end());
  };

  const judge = async (wire: WireRequest): Promise<{ reply: Reply; isLast: boolean }> => {
    const parsed = parse(wire);
    if ("fault" in parsed) return { reply: refusal(parsed.fault), isLast: false };
    const { name, rule, body } = parsed;
    const untimely = untimelyFault(rule, machine.state, isConfigured);
    if (untimely !== undefined) return { reply: refusal(untimely), isLast: false };
    isConfigured ||= rule.configures ?? false;
    const result: Result = await machine.actions[name]?.(body);
    if (result === undefined) return { reply: { status: 204 }, isLast: false };
    if ("answer" in result) return { reply: { status: 200, body: result.answer }, isLast: false };
    return { reply: refusal(result.fault), isLast: rule.endsWhenRefused ?? false };
  };

  server.listen(socketPath);
  await once(server, "listening");
  return { socketPath, machine, heard, connectionCount: () => connectionCount, hasEnded: () => hasEnded, end };
}

/** Names the request and checks its body; the machine's state plays no part. */
function parse({ method, path, body }: WireRequest): { name: string; rule: Rule; body: Body } | { fault: string } {
  const found = findRequest(method, path);
  if (found === undefined) return { fault: `${method} ${path} is unknown` };
  const { described, id } = found;
  if (described.body === undefined && body !== undefined) return { fault: "a body where there is none" };
  if (described.body !== undefined && body === undefined) return { fault: "no body" };
  if (id !== undefined && !ID.test(id)) return { fault: `${id} is no id` };
  const fault = described.body === undefined ? undefined : faultOf(body, described.body);
  if (fault !== undefined) return { fault };
  const fields = (body ?? {}) as Body;
  const ownId = fields["drive_id"] ?? fields["iface_id"];
  if (id !== undefined && id !== ownId) return { fault: `id ${id} in the path, ${ownId} in the body` };
  const hasBoth = "mem_backend" in fields === "mem_file_path" in fields;
  if (found.name === "PUT /snapshot/load" && hasBoth) return { fault: "either mem_backend or mem_file_path" };
  const name = found.name === "PUT /actions" ? `${found.name} ${fields["action_type"]}` : found.name;
  const rule = RULES[name];
  return rule === undefined ? { fault: `the double does no ${name}` } : { name, rule, body: fields };
}

function untimelyFault(rule: Rule, state: Machine["state"], isConfigured: boolean): string | undefined {
  const hasStarted = state !== "Not started";
  switch (rule.when) {
    case "always":
      return undefined;
    case "before-start":
      return hasStarted ? "not after the start" : undefined;
    case "unconfigured":
      if (hasStarted) return "not after the start";
      return isConfigured ? "not after something was configured" : undefined;
    case "after-start":
      return hasStarted ? undefined : "not before the start";
    case "paused":
      return state === "Paused" ? undefined : "only while it is paused";
  }
}

function protocolFault({ method, url, headers }: IncomingMessage): string | undefined {
  if (!METHODS.includes(method ?? "")) return "unknown method";
  if (Buffer.byteLength(`${method} ${url} HTTP/1.1\r\n`) > LINE_LIMIT_BYTES) return "line too long";
  return Number(headers["content-length"] ?? 0) > BODY_LIMIT_BYTES ? "payload too large" : undefined;
}

function refusal(fault: string): Reply {
  return { status: 400, body: { fault_message: fault } };
}

async function readAll(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString("utf8");
}

/** What no JSON is stays text, which no schema allows. */
function json(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
