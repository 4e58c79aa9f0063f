// A server on a unix socket that says what a test wants, in bytes.

import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";

export interface RawServer {
  readonly path: string;
  /** The first line of each request so far. */
  readonly heard: readonly string[];
  /** Connections so far. */
  readonly connectionCount: () => number;
}

/**
 * It ends with the test.
 *
 * @param answer Called for each piece that comes in, which for a small request is all of it.
 */
export async function rawServer(answer: (socket: Socket, request: string) => void): Promise<RawServer> {
  const directory = await mkdtemp(join(tmpdir(), "smolvm-raw-"));
  const path = join(directory, "api");
  const heard: string[] = [];
  const open = new Set<Socket>();
  let connectionCount = 0;
  const server = createServer((socket) => {
    connectionCount += 1;
    open.add(socket);
    socket.on("close", () => open.delete(socket));
    socket.on("error", () => {});
    socket.on("data", (data) => {
      const request = data.toString();
      heard.push(request.split(" HTTP/1.1")[0] ?? "");
      answer(socket, request);
    });
  });
  server.listen(path);
  await once(server, "listening");
  onTestFinished(async () => {
    for (const socket of open) socket.destroy();
    server.close();
    await rm(directory, { recursive: true, force: true });
  });
  return { path, heard, connectionCount: () => connectionCount };
}

/** An answer as bytes. */
export function httpAnswer(status: number, body?: string): string {
  const head = `HTTP/1.1 ${status} \r\nConnection: keep-alive\r\n`;
  if (body === undefined) return `${head}\r\n`;
  return `${head}Content-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
}
