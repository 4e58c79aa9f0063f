import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { expect, onTestFinished, test, vi } from "vitest";
import { Deadline } from "../../base/deadline.js";
import { qmp } from "./qmp.js";

const GREETING = { QMP: { version: { qemu: { major: 7, minor: 2, micro: 0 } }, capabilities: ["oob"] } };
const EVENT = { timestamp: { seconds: 1, microseconds: 2 }, event: "STOP" };
const ample = () => Deadline.after(5_000);

type Say = (message: unknown) => void;
type Answer = (command: string, say: Say, socket: Socket) => void;

interface Monitor {
  readonly path: string;
  readonly heard: string[];
  readonly isAlone: () => boolean;
}

/** A monitor that greets, then answers each command as told. */
async function monitor(answer: Answer, greeting: unknown = GREETING): Promise<Monitor> {
  const directory = await mkdtemp(join(tmpdir(), "smolvm-qmp-"));
  const path = join(directory, "qmp");
  const heard: string[] = [];
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
      const { execute } = JSON.parse(line) as { execute: string };
      heard.push(line);
      answer(execute, say, socket);
    });
  });
  server.listen(path);
  await once(server, "listening");
  onTestFinished(async () => {
    for (const client of clients) client.destroy();
    server.close();
    await rm(directory, { recursive: true, force: true });
  });
  return { path, heard, isAlone: () => clients.size === 0 };
}

const obey: Answer = (_command, say) => say({ return: {} });

test("greets, negotiates, asks in order and leaves", async () => {
  const { path, heard, isAlone } = await monitor((command, say) => say({ return: { did: command } }));
  const commands = [{ execute: "stop" }, { execute: "query-status", arguments: { full: true } }];
  expect(await qmp(path, commands, ample())).toEqual([{ did: "stop" }, { did: "query-status" }]);
  expect(heard.map((line) => JSON.parse(line))).toEqual([{ execute: "qmp_capabilities" }, ...commands]);
  await vi.waitFor(() => expect(isAlone()).toBe(true));
});

test("events in between are no answers", async () => {
  const { path } = await monitor((command, say) => {
    say(EVENT);
    say({ return: command });
    say(EVENT);
  });
  expect(await qmp(path, [{ execute: "stop" }, { execute: "cont" }], ample())).toEqual(["stop", "cont"]);
});

test("an answer in pieces is one answer", async () => {
  const { path } = await monitor((command, say) => {
    if (command !== "stop") return say({ return: {} });
    say('{"ret');
    setTimeout(() => say('urn": 5}\n'), 5);
  });
  expect(await qmp(path, [{ execute: "stop" }], ample())).toEqual([5]);
});

test("lines that are no messages are passed over", async () => {
  const garbage = ["null", "5", '"text"', "[]", "[1]", "not json", "", "{", "\u0000\u0001", "true"];
  const { path } = await monitor(
    (_command, say) => {
      for (const line of garbage) say(`${line}\r\n`);
      say({ return: "fine" });
    },
    `${garbage.join("\n")}\n`,
  );
  expect(await qmp(path, [{ execute: "stop" }], ample())).toEqual(["fine"]);
});

test("a refusal says which command, and why", async () => {
  const { path } = await monitor((command, say) =>
    say(command === "cont" ? { error: { class: "GenericError", desc: "not now" } } : { return: {} }),
  );
  await expect(qmp(path, [{ execute: "stop" }, { execute: "cont" }], ample())).rejects.toMatchObject({
    code: "INTERNAL",
    message: 'QEMU refused "cont": not now',
    details: { command: { execute: "cont" }, class: "GenericError", desc: "not now" },
  });
});

test.each([[null], [5], [{}]])("a refusal that is %j is one all the same", async (error) => {
  const { path } = await monitor((_command, say) => say({ error }));
  await expect(qmp(path, [{ execute: "stop" }], ample())).rejects.toMatchObject({ code: "INTERNAL" });
});

test("one that hangs up, at once or in the middle", async () => {
  const atOnce = await monitor((_command, _say, socket) => socket.destroy());
  await expect(qmp(atOnce.path, [{ execute: "stop" }], ample())).rejects.toMatchObject({ code: "CHANNEL_CLOSED" });
  const midway = await monitor((command, say, socket) => {
    if (command === "stop") socket.end('{"return": ');
    else say({ return: {} });
  });
  await expect(qmp(midway.path, [{ execute: "stop" }], ample())).rejects.toMatchObject({ code: "CHANNEL_CLOSED" });
});

test("one that is not there", async () => {
  await expect(qmp("/nonexistent/qmp", [{ execute: "stop" }], ample())).rejects.toMatchObject({
    code: "CHANNEL_CLOSED",
    cause: { code: "ENOENT" },
  });
});

test("one that says nothing, and a caller who has enough", async () => {
  const { path, isAlone } = await monitor(() => {});
  await expect(qmp(path, [{ execute: "stop" }], Deadline.after(30))).rejects.toMatchObject({
    code: "TIMEOUT",
    details: { timeoutMs: 30 },
  });
  const abort = new AbortController();
  const asking = qmp(path, [{ execute: "stop" }], Deadline.after(5_000, abort.signal));
  abort.abort();
  await expect(asking).rejects.toMatchObject({ code: "ABORTED" });
  await vi.waitFor(() => expect(isAlone()).toBe(true));
});

test("a deadline that never comes is one", async () => {
  const { path } = await monitor((_command, say) => setTimeout(() => say({ return: {} }), 20));
  expect(await qmp(path, [{ execute: "stop" }], Deadline.after(Number.POSITIVE_INFINITY))).toEqual([{}]);
});

test("more answers than questions harm nobody", async () => {
  const { path } = await monitor((command, say) => {
    for (let count = 0; count < 3; count++) obey(command, say, undefined as never);
  });
  expect(await qmp(path, [{ execute: "stop" }], ample())).toEqual([{}]);
});
