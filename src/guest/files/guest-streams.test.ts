import { once } from "node:events";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { expect, test } from "vitest";
import { deferred } from "../../base/deferred.js";
import type { GuestConnection } from "../connection.js";
import { FieldWriter } from "../fields.js";
import { INITIAL_CREDIT_BYTES } from "../frame.js";
import { FakeAgent } from "../testing/fake-agent.js";
import { answer, give, nextCall, takeAll } from "../testing/file-agent.js";
import { GuestFiles } from "./guest-files.js";

async function connected() {
  const { agent, connection } = await FakeAgent.connected();
  return { agent, connection, files: new GuestFiles(async () => connection) };
}

const code = (expected: string) => expect.objectContaining({ code: expected });

async function readAll(stream: Readable): Promise<string> {
  let all = "";
  for await (const piece of stream) all += String(piece);
  return all;
}

test("a read stream gives a part of a file", async () => {
  const { agent, files } = await connected();
  const stream = files.createReadStream("/a", { start: 3, end: 6, encoding: "utf8" });
  const call = await nextCall(agent);
  expect([call.operation, call.fields.u64(19), call.fields.u64(33)]).toEqual(["fs.read", 3n, 4n]);
  await give(agent, call.stream, Buffer.from("dhäx".slice(0, 3)));
  answer(agent, call.stream);
  expect(await readAll(stream)).toBe("dhä");
  expect(stream.bytesRead).toBe(4);
});

test("a read stream holds the guest back while nobody reads, and lets it go on", async () => {
  const { agent, files } = await connected();
  const stream = files.createReadStream("/a", { highWaterMark: 1000 });
  const call = await nextCall(agent);
  agent.stdout(call.stream, Buffer.alloc(60_000));
  agent.stdout(call.stream, Buffer.alloc(60_000));
  await once(stream, "readable");
  expect(agent.all("credit")).toEqual([]);
  // No more than one piece beyond the mark is taken.
  expect(stream.readableLength).toBe(60_000);
  agent.stdout(call.stream, Buffer.alloc(60_000));
  answer(agent, call.stream);
  expect((await readAll(stream)).length).toBe(180_000);
  expect(agent.all("credit").length).toBeGreaterThan(0);
});

test("a read stream that is destroyed cancels the call", async () => {
  const { agent, files } = await connected();
  const stream = files.createReadStream("/a");
  const call = await nextCall(agent);
  agent.stdout(call.stream, Buffer.alloc(60_000));
  await once(stream, "readable");
  stream.destroy();
  expect((await agent.next("kill")).stream).toBe(call.stream);
  agent.stdout(call.stream, Buffer.alloc(60_000)); // It may have crossed.
  agent.failed(call.stream, "ECANCELED", "cancelled");
  expect(stream.destroyed).toBe(true);
});

test.each([
  ["a refusal", (agent: FakeAgent, stream: number) => agent.failed(stream, "ENOENT", "no"), "ENOENT"],
  ["more than was asked for", (agent: FakeAgent, stream: number) => agent.stdout(stream, "1234"), "PROTOCOL_ERROR"],
  ["the end of the connection", (agent: FakeAgent) => agent.vanish(), "CHANNEL_CLOSED"],
])("a read stream fails with %s", async (_, misbehave, expected) => {
  const { agent, files } = await connected();
  const stream = files.createReadStream("/a", { end: 2 });
  const reading = readAll(stream);
  reading.catch(() => {});
  const call = await nextCall(agent);
  misbehave(agent, call.stream);
  if (expected === "PROTOCOL_ERROR") {
    await agent.next("kill");
    agent.failed(call.stream, "ECANCELED", "cancelled");
  }
  await expect(reading).rejects.toThrow(code(expected));
});

test.each(["createReadStream", "createWriteStream"] as const)(
  "%s is aborted by its signal, before and after",
  async (make) => {
    const { agent, files } = await connected();
    const early = files[make]("/a", { signal: AbortSignal.abort() });
    expect((await once(early, "error"))[0]).toMatchObject({ code: "ABORTED" });
    expect(agent.all("call")).toEqual([]);
    const controller = new AbortController();
    const late = files[make]("/a", { signal: controller.signal });
    await nextCall(agent);
    controller.abort();
    expect((await once(late, "error"))[0]).toMatchObject({ code: "ABORTED" });
    await agent.next("kill");
  },
);

test.each(["createReadStream", "createWriteStream"] as const)("%s refuses bad arguments at once", async (make) => {
  const { files } = await connected();
  expect(() => files[make]("a")).toThrow(code("INVALID_CONFIG"));
  expect(() => files[make]("/a", { start: -1 })).toThrow(code("INVALID_CONFIG"));
  expect(() => files[make]("/a", "klingon" as never)).toThrow(code("INVALID_CONFIG"));
});

test("a range whose end is before its start is refused", async () => {
  const { files } = await connected();
  expect(() => files.createReadStream("/a", { start: 5, end: 4 })).toThrow(code("INVALID_CONFIG"));
});

test("a write stream sends what is piped into it, and finishes when the guest has it", async () => {
  const { agent, files } = await connected();
  const stream = files.createWriteStream("/a", { flags: "r+", start: 7, mode: 0o600 });
  const pieces = Array.from({ length: 20 }, (_, index) => Buffer.alloc(40_000, index));
  const piping = pipeline(Readable.from(pieces), stream);
  const call = await nextCall(agent);
  expect([call.operation, call.fields.u64(19), call.fields.u32(34), call.fields.u32(14)]).toEqual([
    "fs.write",
    7n,
    12,
    0o600,
  ]);
  const taken = await takeAll(agent, call.stream);
  expect(taken.equals(Buffer.concat(pieces))).toBe(true);
  let isDone = false;
  void piping.then(() => {
    isDone = true;
  });
  await new Promise(setImmediate);
  expect(isDone).toBe(false);
  answer(agent, call.stream, new FieldWriter().u64(21, BigInt(taken.length)));
  await piping;
  expect(stream.bytesWritten).toBe(taken.length);
});

test("a write stream holds its writer back while the guest takes nothing", async () => {
  const { agent, files } = await connected();
  const stream = files.createWriteStream("/a");
  const call = await nextCall(agent);
  let writtenBytes = 0;
  stream.write(Buffer.alloc(INITIAL_CREDIT_BYTES + 100_000), () => {
    writtenBytes += 1;
  });
  expect(stream.writableNeedDrain).toBe(true);
  while (agent.all("data").reduce((sum, { payload }) => sum + payload.length, 0) < INITIAL_CREDIT_BYTES) {
    await agent.next("data");
  }
  await new Promise(setImmediate);
  expect([writtenBytes, stream.writableNeedDrain]).toEqual([0, true]);
  agent.credit(call.stream, 100_000);
  await once(stream, "drain");
  expect(writtenBytes).toBe(1);
  stream.destroy();
  await agent.next("kill");
});

test("a write stream fails with the guest's refusal though nobody writes", async () => {
  const { agent, files } = await connected();
  const stream = files.createWriteStream("/a");
  agent.failed((await nextCall(agent)).stream, "EROFS", "read-only");
  expect((await once(stream, "error"))[0]).toMatchObject({ code: "EROFS", syscall: "open", path: "/a" });
});

test("a write stream does not take a guest's word for less than it sent", async () => {
  const { agent, files } = await connected();
  const stream = files.createWriteStream("/a");
  stream.end("abc");
  const call = await nextCall(agent);
  await agent.next("end");
  answer(agent, call.stream, new FieldWriter().u64(21, 2n));
  expect((await once(stream, "error"))[0]).toMatchObject({ code: "PROTOCOL_ERROR" });
});

test("a stream that is destroyed before there is a connection opens nothing", async () => {
  const { agent, connection } = await FakeAgent.connected();
  const way = deferred<GuestConnection>();
  const files = new GuestFiles(() => way.promise);
  const streams = [files.createReadStream("/a"), files.createWriteStream("/a")];
  for (const stream of streams) stream.destroy();
  way.resolve(connection);
  await new Promise(setImmediate);
  expect(agent.all("call")).toEqual([]);
});
