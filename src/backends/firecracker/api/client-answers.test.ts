// The client against a server that does what no Firecracker does, or what one does that is in trouble.

import { expect, onTestFinished, test, vi } from "vitest";
import { Deadline } from "../../../base/deadline.js";
import { ApiClient } from "./client.js";
import { ANSWER_LIMIT_BYTES } from "./exchange.js";
import { getInstance, getVersion, pauseVm, startInstance } from "./requests.js";
import { httpAnswer, rawServer } from "./testing/raw-server.js";

const VERSION = httpAnswer(200, '{"firecracker_version":"1.16.1"}');
const ample = (signal?: AbortSignal) => Deadline.after(10_000, signal);

function clientOf(socketPath: string): ApiClient {
  const client = new ApiClient(socketPath);
  onTestFinished(() => client.close());
  return client;
}

test.each([
  ["no HTTP", "hello\r\n\r\n"],
  ["nothing but zeros", "\0".repeat(100)],
  ["a header without end", `HTTP/1.1 200 \r\nX: ${"x".repeat(100_000)}`],
  ["no JSON", httpAnswer(200, "hello")],
  ["no object", httpAnswer(200, "[]")],
  ["another object", httpAnswer(200, '{"version":"1"}')],
  ["a value of another type", httpAnswer(200, '{"firecracker_version":1}')],
  ["nothing where something was asked for", httpAnswer(204)],
  ["another status", httpAnswer(302, "{}")],
  ["more than is read", httpAnswer(200, `"${"x".repeat(10 * 1024 * 1024)}"`)],
])("an answer that is none: %s", async (_what, bytes) => {
  const { path, heard } = await rawServer((socket) => socket.write(bytes));
  const answer = clientOf(path).call(getVersion(), ample());
  await expect(answer).rejects.toMatchObject({ code: "PROTOCOL_ERROR", details: { request: "GET /version" } });
  expect(heard).toEqual(["GET /version"]);
});

test("something where nothing was asked for", async () => {
  const { path } = await rawServer((socket) => socket.write(httpAnswer(200, "{}")));
  await expect(clientOf(path).call(pauseVm(), ample())).rejects.toMatchObject({ code: "PROTOCOL_ERROR" });
});

test("an answer that is as long as is read, and one byte longer", async () => {
  const version = "x".repeat(ANSWER_LIMIT_BYTES - '{"firecracker_version":""}'.length);
  const fits = await rawServer((socket) => socket.write(httpAnswer(200, `{"firecracker_version":"${version}"}`)));
  expect(await clientOf(fits.path).call(getVersion(), ample())).toEqual({ firecrackerVersion: version });
  const long = await rawServer((socket) => socket.write(httpAnswer(200, `{"firecracker_version":"${version}x"}`)));
  await expect(clientOf(long.path).call(getVersion(), ample())).rejects.toMatchObject({ code: "PROTOCOL_ERROR" });
});

test("an answer in pieces is one answer", async () => {
  const { path } = await rawServer((socket) => {
    socket.write(VERSION.slice(0, 30));
    setTimeout(() => socket.write(VERSION.slice(30, 110)), 5);
    setTimeout(() => socket.write(VERSION.slice(110)), 10);
  });
  expect(await clientOf(path).call(getVersion(), ample())).toEqual({ firecrackerVersion: "1.16.1" });
});

test.each([
  ["before the answer", ""],
  ["within its head", VERSION.slice(0, 30)],
  ["within its body", VERSION.slice(0, -5)],
])("a VMM that ends %s is asked once", async (_when, bytes) => {
  const { path, heard } = await rawServer((socket) => socket.end(bytes));
  await expect(clientOf(path).call(startInstance(), ample())).rejects.toMatchObject({ code: "CHANNEL_CLOSED" });
  expect(heard).toEqual(["PUT /actions"]);
});

test("after an answer that is none the next call has a connection of its own", async () => {
  let isFirst = true;
  const { path, connectionCount } = await rawServer((socket) => {
    socket.write(isFirst ? httpAnswer(400, '{ "error": "Invalid header.\n." }') : VERSION);
    isFirst = false;
  });
  const client = clientOf(path);
  await expect(client.call(startInstance(), ample())).rejects.toMatchObject({
    code: "BOOT_FAILED",
    details: { status: 400, fault: '{ "error": "Invalid header. ." }' },
  });
  expect(await client.call(getVersion(), ample())).toEqual({ firecrackerVersion: "1.16.1" });
  expect(connectionCount()).toBe(2);
});

test.each([500, 413, 404])("status %i is a refusal too", async (status) => {
  const { path } = await rawServer((socket) => socket.write(httpAnswer(status, '{"fault_message":"no"}')));
  await expect(clientOf(path).call(pauseVm(), ample())).rejects.toMatchObject({ details: { status, fault: "no" } });
});

test("a reason is bounded and printable", async () => {
  const fault = `\u001b[31mred\r\n\u0007${"x".repeat(50_000)}`;
  const { path } = await rawServer((socket) => socket.write(httpAnswer(400, JSON.stringify({ fault_message: fault }))));
  const error = await clientOf(path)
    .call(pauseVm(), ample())
    .catch((reason: unknown) => reason as Error);
  expect(error).toMatchObject({ details: { fault: expect.stringMatching(/^\[31mred x+\.\.\.$/) } });
  expect((error as Error).message.length).toBeLessThan(2_100);
});

test("a deadline that the caller chose, and the request's own", async () => {
  const { path } = await rawServer(() => {});
  const client = clientOf(path);
  const late = (timeoutMs: number) => ({ code: "TIMEOUT", details: { timeoutMs } });
  await expect(client.call(getVersion(), Deadline.after(30))).rejects.toMatchObject(late(30));
  await expect(client.call({ ...getVersion(), limitMs: 40 })).rejects.toMatchObject(late(40));
});

test("a call that was given up costs its connection, not the next call", async () => {
  let isFirst = true;
  const { path, connectionCount, heard } = await rawServer((socket) => {
    if (!isFirst) socket.write(VERSION);
    isFirst = false;
  });
  const client = clientOf(path);
  const abort = new AbortController();
  const given = client.call(startInstance(), ample(abort.signal));
  await vi.waitFor(() => expect(heard).toEqual(["PUT /actions"]));
  abort.abort();
  await expect(given).rejects.toMatchObject({ code: "ABORTED" });
  expect(await client.call(getVersion(), ample())).toEqual({ firecrackerVersion: "1.16.1" });
  expect(connectionCount()).toBe(2);
});

test("a call that is given up before its turn is not sent, and disturbs nobody", async () => {
  const answers: (() => void)[] = [];
  const { path, heard, connectionCount } = await rawServer((socket) => answers.push(() => socket.write(VERSION)));
  const client = clientOf(path);
  const first = client.call(getVersion(), ample());
  const abort = new AbortController();
  const second = client.call(startInstance(), ample(abort.signal));
  await vi.waitFor(() => expect(answers).toHaveLength(1));
  abort.abort();
  await expect(second).rejects.toMatchObject({ code: "ABORTED" });
  await expect(client.call(pauseVm(), Deadline.after(20))).rejects.toMatchObject({ code: "TIMEOUT" });
  await expect(client.call(getInstance(), ample(AbortSignal.abort()))).rejects.toMatchObject({ code: "ABORTED" });
  answers[0]?.();
  expect(await first).toEqual({ firecrackerVersion: "1.16.1" });
  expect([heard, connectionCount()]).toEqual([["GET /version"], 1]);
});

test("a call with no time or an aborted signal sends nothing", async () => {
  const { path, connectionCount } = await rawServer((socket) => socket.write(VERSION));
  const client = clientOf(path);
  await expect(client.call(getVersion(), Deadline.after(0))).rejects.toMatchObject({ code: "TIMEOUT" });
  await expect(client.call(getVersion(), ample(AbortSignal.abort()))).rejects.toMatchObject({ code: "ABORTED" });
  expect(connectionCount()).toBe(0);
});

test("a call that was turned away keeps its turn", async () => {
  let isFirst = true;
  const { path, heard } = await rawServer((socket, request) => {
    if (isFirst) socket.end(httpAnswer(503, "{}"));
    else socket.write(request.startsWith("GET") ? VERSION : httpAnswer(204));
    isFirst = false;
  });
  const client = clientOf(path);
  await Promise.all([client.call(startInstance(), ample()), client.call(getVersion(), ample())]);
  expect(heard).toEqual(["PUT /actions", "PUT /actions", "GET /version"]);
});

test("closing ends a call that is under way", async () => {
  const { path, heard } = await rawServer(() => {});
  const client = clientOf(path);
  const call = client.call(getVersion(), ample());
  await vi.waitFor(() => expect(heard).toHaveLength(1));
  client.close();
  await expect(call).rejects.toMatchObject({ code: "CHANNEL_CLOSED" });
});

test("a second answer to one request harms nobody", async () => {
  const { path } = await rawServer((socket) => socket.write(VERSION + VERSION));
  const client = clientOf(path);
  for (let count = 0; count < 3; count++) {
    expect(await client.call(getVersion(), ample())).toEqual({ firecrackerVersion: "1.16.1" });
  }
});
