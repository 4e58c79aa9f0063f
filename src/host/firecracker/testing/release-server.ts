// A server on loopback that gives a file as a good server would, or as a bad one.

import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { onTestFinished } from "vitest";

/** What a request asked for, and what went out for it. */
export interface SeenRequest {
  readonly path: string;
  readonly range: string | undefined;
  readonly ifRange: string | undefined;
  sentBytes: number;
}

/** One request to answer. */
export interface Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly seen: SeenRequest;
  /** Which request it is, from 0 on. */
  readonly index: number;
}

export type Answer = (exchange: Exchange) => void;

/** Its address, and what was asked of it so far. */
export interface ReleaseServer {
  readonly url: string;
  readonly requests: readonly SeenRequest[];
}

/** Starts a server that is gone when the test ends. */
export async function serve(answer: Answer): Promise<ReleaseServer> {
  const requests: SeenRequest[] = [];
  const server = createServer((request, response) => {
    const { range, "if-range": ifRange } = request.headers;
    const seen = { path: request.url ?? "", range, ifRange: ifRange as string | undefined, sentBytes: 0 };
    requests.push(seen);
    response.on("error", () => {});
    answer({ request, response, seen, index: requests.length - 1 });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/mirror`, requests };
}

/** How a file is given. */
export interface FileOptions {
  readonly etag?: string;
  /** Whether `Range` is understood. Default true. */
  readonly ranges?: boolean;
  /** Ends the connection when so many bytes of the answer are out. */
  readonly cutAfterBytes?: number;
  /** Says nothing more, when so many bytes of the answer are out. */
  readonly stallAfterBytes?: number;
  /** Sends it in pieces without a length. */
  readonly chunked?: boolean;
}

/** Gives `body`, or the part of it that was asked for. */
export function file(body: Buffer, options: FileOptions = {}): Answer {
  const { etag, ranges = true, chunked = false } = options;
  return ({ response, seen }) => {
    const isSame = seen.ifRange === undefined || seen.ifRange === etag;
    const from = ranges && isSame ? Number(/^bytes=(\d+)-$/.exec(seen.range ?? "")?.[1] ?? 0) : 0;
    if (from > 0 && from >= body.length) {
      response.writeHead(416, { "content-range": `bytes */${body.length}` }).end();
      return;
    }
    const part = body.subarray(from);
    response.writeHead(from > 0 ? 206 : 200, {
      ...(from > 0 ? { "content-range": `bytes ${from}-${body.length - 1}/${body.length}` } : {}),
      ...(chunked ? {} : { "content-length": part.length }),
      ...(etag === undefined ? {} : { etag }),
    });
    const limit = options.cutAfterBytes ?? options.stallAfterBytes ?? part.length;
    seen.sentBytes = Math.min(limit, part.length);
    const isAll = limit >= part.length;
    if (isAll) response.end(part);
    else {
      response.write(part.subarray(0, limit), () => {
        // A moment later, so that what is out arrives before the end does.
        if (options.cutAfterBytes !== undefined) setTimeout(() => response.destroy(), 50);
      });
    }
  };
}

export function status(code: number, headers: Readonly<Record<string, string>> = {}): Answer {
  return ({ response }) => void response.writeHead(code, headers).end("sorry");
}

/** The first answer for the first request, and so on; the last one for all that follow. */
export function inTurn(...answers: readonly Answer[]): Answer {
  return (exchange) => answers[Math.min(exchange.index, answers.length - 1)]?.(exchange);
}
