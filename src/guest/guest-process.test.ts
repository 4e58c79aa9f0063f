import { describe, expect, test, vi } from "vitest";
import { Deadline } from "../base/deadline.js";
import { SmolVMError } from "../errors/smolvm-error.js";
import type { GuestConnection } from "./connection.js";
import { FieldReader, FieldWriter } from "./fields.js";
import { INITIAL_CREDIT_BYTES } from "./frame.js";
import { GuestProcess, type ProcessRequest } from "./guest-process.js";
import type { ProcessOutput } from "./process-output.js";
import { FakeAgent } from "./testing/fake-agent.js";

const tick = () => new Promise((resolve) => setTimeout(resolve, 10));
const PROCESS_ID = "0123abcd";

function spawn(connection: GuestConnection, changes: Partial<ProcessRequest> = {}): GuestProcess {
  const { isDetached = false, stdin = "pipe" } = changes;
  const exec = { command: { argv: ["prog", "arg"] }, hasStdin: stdin !== null, isDetached };
  return new GuestProcess({
    open: async (sink) => connection.exec(exec, sink),
    deadline: Deadline.after(60_000),
    maxOutputBytes: 1_000_000,
    check: false,
    isView: false,
    shown: "prog arg",
    stdin,
    isDetached,
    ...changes,
  });
}

/** What the agent says of a detached process. */
function startedDetached(agent: FakeAgent, stream: number, offset = 0n): void {
  agent.send("started", { stream, payload: new FieldWriter().u32(1, 9).text(2, PROCESS_ID).u64(3, offset).finish() });
}

async function collect(process: GuestProcess): Promise<ProcessOutput[]> {
  const pieces: ProcessOutput[] = [];
  for await (const piece of process) pieces.push(piece);
  return pieces;
}

test("is a promise of its result", async () => {
  const { agent, connection } = await FakeAgent.connected();
  const process = spawn(connection);
  await agent.next("exec");
  agent.started(1, 42);
  await process.started;
  expect([process.pid, process.id]).toEqual([42, undefined]);
  agent.stdout(1, "out ");
  agent.stderr(1, "err");
  agent.exited(1, 3);
  const result = await process;
  expect(result).toMatchObject({ exitCode: 3, stdout: "out ", output: "out", stderr: "err", ok: false });
  expect(await process.catch(() => "never")).toBe(result);
  expect(await process.finally(() => {})).toBe(result);
});

test("is an iterable of its output in order, with offsets, and then a promise all the same", async () => {
  const { agent, connection } = await FakeAgent.connected();
  const process = spawn(connection);
  await agent.next("exec");
  agent.started(1);
  agent.stdout(1, "one");
  agent.stderr(1, "two");
  agent.stdout(1, "three");
  agent.exited(1, 0);
  const pieces = (await collect(process)).map(({ stream, data, offset }) => [stream, String(data), offset]);
  expect(pieces).toEqual([
    ["stdout", "one", 0],
    ["stderr", "two", 3],
    ["stdout", "three", 6],
  ]);
  expect(await process).toMatchObject({ stdout: "onethree", stderr: "two", ok: true });
});

describe("backpressure", () => {
  test("a reader that stops gives no credit, and gets everything when it goes on", async () => {
    const { agent, connection } = await FakeAgent.connected();
    const process = spawn(connection);
    await agent.next("exec");
    agent.started(1);
    const reader = process[Symbol.asyncIterator]();
    const piece = Buffer.alloc(INITIAL_CREDIT_BYTES / 4, "x");
    for (let count = 0; count < 4; count++) agent.stdout(1, piece);
    await reader.next();
    await tick();
    expect(agent.all("credit").length).toBeLessThan(2);
    let gotBytes = piece.length;
    for (let count = 0; count < 3; count++) gotBytes += (await reader.next()).value?.data.length ?? 0;
    expect(gotBytes).toBe(INITIAL_CREDIT_BYTES);
    await tick();
    expect(agent.all("credit").length).toBeGreaterThan(2);
    agent.exited(1, 0);
    expect(await reader.next()).toEqual({ done: true, value: undefined });
  });

  test("before anybody asks, output waits in the guest", async () => {
    const { agent, connection } = await FakeAgent.connected();
    const process = spawn(connection);
    await agent.next("exec");
    agent.started(1);
    for (let count = 0; count < 4; count++) agent.stdout(1, Buffer.alloc(INITIAL_CREDIT_BYTES / 4));
    await tick();
    expect(agent.all("credit")).toEqual([]);
    const result = process.then((value) => value);
    await tick();
    expect(agent.all("credit").length).toBeGreaterThan(0);
    agent.exited(1, 0);
    expect((await result).stdout.length).toBe(INITIAL_CREDIT_BYTES);
  });

  test("a killed process does not wait for its reader", async () => {
    const { agent, connection } = await FakeAgent.connected();
    const controller = new AbortController();
    const process = spawn(connection, { deadline: Deadline.after(60_000, controller.signal) });
    const reader = process[Symbol.asyncIterator]();
    await agent.next("exec");
    agent.started(1);
    for (let count = 0; count < 4; count++) agent.stdout(1, Buffer.alloc(INITIAL_CREDIT_BYTES / 4, "x"));
    await reader.next();
    controller.abort();
    await agent.next("kill");
    agent.killedBy(1, 9);
    // Nobody has read the rest: the result is there all the same.
    const result = await process;
    expect(result).toMatchObject({ exitCode: 137, signal: "SIGKILL", timedOut: false });
    expect(result.stdout.length).toBe(INITIAL_CREDIT_BYTES);
  });
});

test("a timeout kills it and gives what it said so far; with check it is an error that carries that", async () => {
  const { agent, connection } = await FakeAgent.connected();
  const lax = spawn(connection, { deadline: Deadline.after(30) });
  const strict = spawn(connection, { deadline: Deadline.after(30), check: true });
  for (const stream of [1, 2]) {
    agent.started(stream);
    agent.stdout(stream, "so far");
  }
  const settled = Promise.allSettled([lax, strict]);
  await agent.next("kill");
  await agent.next("kill");
  agent.killedBy(1, 9);
  agent.killedBy(2, 9);
  const [first, second] = await settled;
  expect(first).toMatchObject({ value: { timedOut: true, signal: "SIGKILL", stdout: "so far", ok: false } });
  expect(second).toMatchObject({ reason: { code: "COMMAND_TIMEOUT", result: { stdout: "so far", timedOut: true } } });
});

test("with check a non-zero exit is an error, for the iteration too", async () => {
  const { agent, connection } = await FakeAgent.connected();
  const process = spawn(connection, { check: true });
  await agent.next("exec");
  agent.started(1);
  agent.exited(1, 2);
  await expect(collect(process)).rejects.toMatchObject({ code: "COMMAND_FAILED", result: { exitCode: 2 } });
  await expect(process).rejects.toMatchObject({ code: "COMMAND_FAILED" });
});

test("what cannot be started is told by the promise, by started and by the iteration, and to nobody who does not ask", async () => {
  const { agent, connection } = await FakeAgent.connected();
  const process = spawn(connection);
  const unasked = spawn(connection);
  agent.failed(1, "ENOENT", "not found");
  agent.failed(2, "ENOENT", "not found");
  await tick(); // An unhandled rejection would fail the test run.
  const expected = { code: "COMMAND_FAILED", details: { errno: "ENOENT" } };
  await expect(process.started).rejects.toMatchObject(expected);
  await expect(collect(process)).rejects.toMatchObject(expected);
  await expect(process).rejects.toMatchObject(expected);
  unasked.kill();
  unasked.resize({ cols: 1, rows: 1 });
  await expect(spawn(connection, { open: () => Promise.reject(new RangeError("no way")) })).rejects.toThrow("no way");
});

test("leaving the iteration kills it", async () => {
  const { agent, connection } = await FakeAgent.connected();
  const process = spawn(connection);
  await agent.next("exec");
  agent.started(1);
  agent.stdout(1, "ready");
  for await (const _ of process) break;
  await agent.next("kill");
  agent.killedBy(1, 9);
  expect(await process).toMatchObject({ signal: "SIGKILL", stdout: "ready" });
});

test("an iteration that is left before its first piece kills it, too", async () => {
  const { agent, connection } = await FakeAgent.connected();
  const process = spawn(connection);
  await agent.next("exec");
  agent.started(1);
  await process[Symbol.asyncIterator]().return?.();
  await agent.next("kill");
  agent.killedBy(1, 9);
  expect(await process).toMatchObject({ signal: "SIGKILL" });
});

test("one that ends without having started leaves nobody waiting", async () => {
  const { agent, connection } = await FakeAgent.connected();
  const process = spawn(connection);
  await agent.next("exec");
  agent.exited(1, 0);
  await expect(process.started).rejects.toMatchObject({ code: "PROTOCOL_ERROR" });
});

test("a killed one that floods in single bytes does not fill the memory while its reader is slow", async () => {
  const { agent, connection } = await FakeAgent.connected();
  const process = spawn(connection);
  const reader = process[Symbol.asyncIterator]();
  await agent.next("exec");
  agent.started(1);
  process.kill("SIGKILL");
  await agent.next("kill");
  for (let count = 0; count < 50_000; count++) {
    agent.stdout(1, "o");
    agent.stderr(1, "e");
  }
  await tick();
  await tick();
  let pieces = 0;
  agent.killedBy(1, 9);
  for (let piece = await reader.next(); piece.done !== true; piece = await reader.next()) pieces += 1;
  expect(pieces).toBe(100_000);
});

test("is read by one at a time", async () => {
  const { connection } = await FakeAgent.connected();
  const process = spawn(connection);
  process[Symbol.asyncIterator]();
  expect(() => process[Symbol.asyncIterator]()).toThrow(expect.objectContaining({ code: "INVALID_STATE" }));
});

test("the end of its scope kills it and waits for its end", async () => {
  const { agent, connection } = await FakeAgent.connected();
  const process = spawn(connection);
  await agent.next("exec");
  agent.started(1);
  const ended = vi.fn();
  const disposing = process[Symbol.asyncDispose]().then(ended);
  await agent.next("kill");
  await tick();
  expect(ended).not.toHaveBeenCalled();
  agent.killedBy(1, 9);
  await disposing;
});

test("stdin is a stream with backpressure, whose end is the process's", async () => {
  const { agent, connection } = await FakeAgent.connected();
  const process = spawn(connection);
  process.stdin.write("before it ");
  process.stdin.end("has started");
  expect(new FieldReader((await agent.next("exec")).payload).bytes(9)).toEqual(Buffer.from([1]));
  await agent.next("end");
  expect(agent.all("data").map(({ payload }) => String(payload))).toEqual(["before it ", "has started"]);

  const fed = spawn(connection, { stdin: "given" });
  expect(fed.stdin.destroyed).toBe(true);
  await agent.next("end");
  expect(String(agent.all("data").at(-1)?.payload)).toBe("given");

  const none = spawn(connection, { stdin: null });
  expect(none.stdin.destroyed).toBe(true);
  await tick();
  expect(new FieldReader(agent.all("exec").at(-1)?.payload ?? Buffer.alloc(0)).bytes(9)).toBeUndefined();
});

test("signals and sizes reach it, also those from before its start", async () => {
  const { agent, connection } = await FakeAgent.connected();
  const process = spawn(connection);
  process.kill();
  process.kill("SIGUSR1");
  process.resize({ cols: 100, rows: 30 });
  await agent.next("resize");
  expect(agent.all("signal").map(({ payload }) => new FieldReader(payload).u32(1))).toEqual([15, 10]);
  const size = new FieldReader(agent.all("resize")[0]?.payload ?? Buffer.alloc(0));
  expect([size.u32(1), size.u32(2)]).toEqual([100, 30]);
  expect(() => process.kill("SIGNOPE" as never)).toThrow(expect.objectContaining({ code: "INVALID_CONFIG" }));
  expect(() => process.kill("toString" as never)).toThrow(expect.objectContaining({ code: "INVALID_CONFIG" }));
  for (const size of [{ cols: 0, rows: 1 }, { cols: 1, rows: 65_536 }, { cols: 1.5, rows: 1 }, {} as never]) {
    expect(() => process.resize(size)).toThrow(expect.objectContaining({ code: "INVALID_CONFIG" }));
  }
});

describe("a detached process", () => {
  test("has an id, and is let go when the iteration is left, which is no failure", async () => {
    const { agent, connection } = await FakeAgent.connected();
    const onError = vi.fn();
    const process = spawn(connection, { isDetached: true, onError });
    expect(new FieldReader((await agent.next("exec")).payload).bytes(12)).toEqual(Buffer.from([1]));
    startedDetached(agent, 1);
    await process.started;
    expect(process.id).toBe(PROCESS_ID);
    agent.stdout(1, "ready");
    for await (const _ of process) break;
    await agent.next("detach");
    agent.stdout(1, "crossed");
    agent.send("reply", { stream: 1 });
    await expect(process).rejects.toMatchObject({ code: "INVALID_STATE" });
    expect([agent.all("kill"), connection.isOpen]).toEqual([[], true]);
    expect(onError).not.toHaveBeenCalled();
  });

  test.each([0, 20])("whose stdin fails %s ms after its start is let go, not killed", async (delayMs) => {
    const { agent, connection } = await FakeAgent.connected();
    async function* broken(): AsyncGenerator<string> {
      if (delayMs > 0) await new Promise((resolve) => setTimeout(resolve, delayMs));
      yield* [];
      throw new RangeError("source broke");
    }
    const failing = expect(spawn(connection, { isDetached: true, stdin: broken() })).rejects.toThrow("stdin failed");
    await agent.next("exec");
    setTimeout(() => startedDetached(agent, 1), 10);
    await agent.next("detach");
    await failing;
    expect(agent.all("kill")).toEqual([]);
  });

  test("is read on from an offset, and what was lost shows in the next one", async () => {
    const { agent, connection } = await FakeAgent.connected();
    const process = spawn(connection, {
      open: async (sink) => connection.attach(PROCESS_ID, 10n, sink),
      isView: true,
      isDetached: true,
    });
    const attach = new FieldReader((await agent.next("attach")).payload);
    expect([attach.text(1), attach.u64(2)]).toEqual([PROCESS_ID, 10n]);
    startedDetached(agent, 1, 12n);
    agent.stdout(1, "abc");
    agent.send("skipped", { stream: 1, payload: new FieldWriter().u64(1, 100n).finish() });
    agent.stderr(1, "d");
    agent.exited(1, 0, { stdout: 85n });
    expect((await collect(process)).map(({ data, offset }) => [String(data), offset])).toEqual([
      ["abc", 12],
      ["d", 100],
    ]);
    expect([process.offset, (await process).truncated]).toEqual([101, true]);
  });

  test("outlives the deadline of who only attached to it", async () => {
    const { agent, connection } = await FakeAgent.connected();
    const process = spawn(connection, {
      open: async (sink) => connection.attach(PROCESS_ID, undefined, sink),
      deadline: Deadline.after(20),
      isView: true,
      isDetached: true,
    });
    const failing = expect(process).rejects.toMatchObject({ code: "TIMEOUT" });
    startedDetached(agent, 1);
    await agent.next("detach");
    agent.send("reply", { stream: 1 });
    await failing;
    expect(agent.all("kill")).toEqual([]);
  });

  test("that is not there", async () => {
    const { agent, connection } = await FakeAgent.connected();
    const process = spawn(connection, { open: async (sink) => connection.attach(PROCESS_ID, undefined, sink) });
    await agent.next("attach");
    agent.failed(1, "ESRCH", "no such process");
    await expect(process).rejects.toMatchObject({ code: "PROCESS_NOT_FOUND" });
  });

  test("that has started lets the program end, unless somebody waits for it", async () => {
    const { agent, connection } = await FakeAgent.connected();
    const [held, free] = [vi.fn(), vi.fn()];
    Object.assign(agent.lane, { ref: held, unref: free });
    const last = () => {
      const [ref = 0, unref = 0] = [held, free].map((spy) => spy.mock.invocationCallOrder.at(-1) ?? 0);
      return ref > unref ? "held" : "free";
    };
    const process = spawn(connection, { isDetached: true });
    await agent.next("exec");
    expect(last()).toBe("held");
    startedDetached(agent, 1);
    await process.started;
    expect(last()).toBe("free");
    const result = process.then(({ exitCode }) => exitCode);
    expect(last()).toBe("held");
    agent.exited(1, 4);
    expect(await result).toBe(4);
    expect(last()).toBe("free");
  });

  test("cannot be what was not started so", async () => {
    const { connection } = await FakeAgent.connected();
    expect(() => spawn(connection).detach()).toThrow(SmolVMError);
  });
});
