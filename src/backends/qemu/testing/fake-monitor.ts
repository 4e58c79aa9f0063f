// A monitor socket whose answers a test decides.

import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { onTestFinished } from "vitest";

const GREETING = { QMP: { version: { qemu: { major: 7, minor: 2, micro: 0 } }, capabilities: ["oob"] } };

/** What came in. */
export interface HeardCommand {
  readonly execute: string;
  readonly arguments?: Record<string, unknown>;
}

type Say = (message: unknown) => void;
type Answer = (command: HeardCommand, say: Say, socket: Socket) => void;

export interface FakeMonitor {
  /** Its socket is `qmp` in there. */
  readonly directory: string;
  readonly path: string;
  readonly heard: HeardCommand[];
  /** Nobody is connected. */
  readonly isAlone: () => boolean;
}

/** A monitor that greets, then answers each command as told. It ends with the test. */
export async function fakeMonitor(answer: Answer, greeting: unknown = GREETING): Promise<FakeMonitor> {
  const directory = await mkdtemp(join(tmpdir(), "smolvm-qmp-"));
  const path = join(directory, "qmp");
  const heard: HeardCommand[] = [];
  const clients = new Set<Socket>();
  const server = createServer((socket) => {
    clients.add(socket);
    socket.on("close", () => clients.delete(socket));
    socket.on("error", () => {});
    const say = (message: unknown) =>
      socket.write(typeof message === "string" ? message : `${JSON.stringify(message)}\r\n`);
    say(greeting);
    const lines = createInterface({ input: socket });
    lines.on("error", () => {});
    lines.on("line", (line) => {
      const command = JSON.parse(line) as HeardCommand;
      heard.push(command);
      answer(command, say, socket);
    });
  });
  server.listen(path);
  await once(server, "listening");
  onTestFinished(async () => {
    for (const client of clients) client.destroy();
    server.close();
    await rm(directory, { recursive: true, force: true });
  });
  return { directory, path, heard, isAlone: () => clients.size === 0 };
}
