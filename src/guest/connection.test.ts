import { randomBytes } from "node:crypto";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { Deadline } from "../base/deadline.js";
import { GuestConnection } from "./connection.js";
import { FieldReader, FieldWriter } from "./fields.js";
import { FRAME_TYPE, type FrameName, PREAMBLE } from "./frame.js";
import { shutdownGuest } from "./shutdown.js";
import { FakeAgent, welcomePayload } from "./testing/fake-agent.js";

const ample = () => Deadline.after(5_000);
const isProtocolError = expect.objectContaining({ code: "PROTOCOL_ERROR" });
const ignore = () => {};
const cat = { command: { argv: ["cat"] }, hasStdin: false };

const unhandled: unknown[] = [];
const onUnhandled = (error: unknown) => unhandled.push(error);
beforeEach(() => {
  unhandled.length = 0;
  process.on("unhandledRejection", onUnhandled);
  process.on("uncaughtException", onUnhandled);
});
afterEach(async () => {
  await new Promise((resolve) => setTimeout(resolve, 5));
  process.off("unhandledRejection", onUnhandled);
  process.off("uncaughtException", onUnhandled);
  expect(unhandled).toEqual([]);
});

describe("handshake", () => {
  test("sends the preamble, the version and a nonce of its own each time", async () => {
    const nonces = await Promise.all(
      [new FakeAgent(), new FakeAgent()].map(async (agent) => {
        const opening = GuestConnection.open(agent.lane, ample());
        const hello = new FieldReader((await agent.next("hello")).payload);
        expect(agent.received.subarray(0, 16).equals(PREAMBLE)).toBe(true);
        expect(hello.u32(1)).toBe(1);
        agent.vanish();
        await expect(opening).rejects.toMatchObject({ code: "CHANNEL_CLOSED" });
        return hello.bytes(2)?.toString("hex");
      }),
    );
    expect(nonces[0]).toMatch(/^[0-9a-f]{32}$/);
    expect(nonces[0]).not.toBe(nonces[1]);
  });

  test("skips leftovers and another client's welcome", async () => {
    const agent = new FakeAgent();
    const opening = GuestConnection.open(agent.lane, ample());
    agent.raw(randomBytes(5_000));
    agent.raw(PREAMBLE);
    agent.send("welcome", { sequence: 0, payload: welcomePayload(Buffer.alloc(16, 1)) });
    agent.stdout(1, "not for you");
    const nonce = await agent.nonce();
    agent.raw(PREAMBLE);
    agent.send("welcome", { sequence: 0, payload: welcomePayload(nonce) });
    const connection = await opening;
    expect(connection.isOpen).toBe(true);
    connection.close();
  });

  test("times out on a silent agent", async () => {
    const agent = new FakeAgent();
    await expect(GuestConnection.open(agent.lane, Deadline.after(30))).rejects.toMatchObject({
      code: "TIMEOUT",
      details: { timeoutMs: 30 },
    });
    expect(agent.lane.destroyed).toBe(true);
  });

  test("is aborted by the caller", async () => {
    const agent = new FakeAgent();
    const abort = new AbortController();
    const opening = GuestConnection.open(agent.lane, Deadline.after(5_000, abort.signal));
    abort.abort(new Error("changed my mind"));
    await expect(opening).rejects.toMatchObject({ code: "ABORTED" });
    expect(agent.lane.destroyed).toBe(true);
  });

  test("fails with the lane", async () => {
    const agent = new FakeAgent();
    const opening = GuestConnection.open(agent.lane, ample());
    agent.lane.destroy(new Error("broken pipe"));
    await expect(opening).rejects.toMatchObject({ code: "CHANNEL_CLOSED" });
  });

  test("an agent of another version says so", async () => {
    const agent = new FakeAgent();
    const opening = GuestConnection.open(agent.lane, ample());
    await agent.welcome({ version: 2 });
    agent.send("fatal", { payload: new FieldWriter().text(1, "EPROTONOSUPPORT").text(2, "I speak 2").finish() });
    await expect(opening).rejects.toMatchObject({
      code: "PROTOCOL_ERROR",
      message: expect.stringContaining("I speak 2"),
      details: { agentCode: "EPROTONOSUPPORT" },
    });
  });

  test("a second welcome is a protocol error", async () => {
    const { agent, connection } = await FakeAgent.connected();
    agent.send("welcome", { payload: welcomePayload(Buffer.alloc(16)) });
    expect(await connection.closed).toEqual(isProtocolError);
  });
});

describe("calls", () => {
  test("carry the operation and its fields, and give the reply's", async () => {
    const { agent, connection } = await FakeAgent.connected();
    const calling = connection.call("ping", new FieldWriter().u32(10, 5), ample());
    const call = await agent.next("call");
    expect(call.stream).toBe(1);
    const fields = new FieldReader(call.payload);
    expect([fields.text(1), fields.u32(10)]).toEqual(["ping", 5]);
    agent.send("reply", { stream: 1, payload: new FieldWriter().u32(4, 1500).finish() });
    expect((await calling).u32(4)).toBe(1500);
  });

  test("a refused one says who refused what", async () => {
    const { agent, connection } = await FakeAgent.connected();
    const calling = connection.call("fly", new FieldWriter(), ample());
    agent.failed((await agent.next("call")).stream, "ENOSYS", "unknown operation");
    await expect(calling).rejects.toMatchObject({ code: "INTERNAL", details: { errno: "ENOSYS" } });
  });

  test("time out alone: the connection goes on, and the late answer is dropped", async () => {
    const { agent, connection } = await FakeAgent.connected();
    await expect(connection.call("ping", new FieldWriter(), Deadline.after(20))).rejects.toMatchObject({
      code: "TIMEOUT",
    });
    agent.send("reply", { stream: 1 });
    const second = connection.call("ping", new FieldWriter(), ample());
    await agent.next("call");
    agent.send("reply", { stream: (await agent.next("call")).stream });
    await second;
    expect(connection.isOpen).toBe(true);
  });

  test("that timed out keep no program alive, and their streams are not open any more", async () => {
    const { agent, connection } = await FakeAgent.connected();
    const [ref, unref] = [vi.fn(), vi.fn()];
    Object.assign(agent.lane, { ref, unref });
    await connection.call("ping", new FieldWriter(), Deadline.after(10)).catch(ignore);
    expect([ref.mock.calls.length, unref.mock.calls.length]).toEqual([1, 1]);
    agent.failed(1, "EIO", "late");
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(connection.isOpen).toBe(true);
    agent.send("reply", { stream: 1 }); // Only one answer may be late.
    expect(await connection.closed).toEqual(isProtocolError);
  });

  test("that timed out are still no commands", async () => {
    const { agent, connection } = await FakeAgent.connected();
    await connection.call("ping", new FieldWriter(), Deadline.after(10)).catch(ignore);
    agent.exited(1, 0);
    expect(await connection.closed).toEqual(isProtocolError);
  });

  test("that nobody ever answers end the connection after some", async () => {
    const { connection } = await FakeAgent.connected();
    const expired = Deadline.after(0);
    for (let count = 0; count <= 256; count++) {
      expect(connection.isOpen).toBe(true);
      await connection.call("ping", new FieldWriter(), expired).catch(ignore);
    }
    expect(await connection.closed).toMatchObject({ code: "CHANNEL_CLOSED" });
  });

  test("are aborted by the caller", async () => {
    const { connection } = await FakeAgent.connected();
    const abort = new AbortController();
    const calling = connection.call("ping", new FieldWriter(), Deadline.after(5_000, abort.signal));
    abort.abort();
    await expect(calling).rejects.toMatchObject({ code: "ABORTED" });
  });

  test("shutdown carries its grace", async () => {
    const { agent, connection } = await FakeAgent.connected();
    const ending = shutdownGuest(connection, { graceMs: 3_000, isClosed: true }, ample());
    const call = await agent.next("call");
    expect(new FieldReader(call.payload).u32(10)).toBe(3_000);
    agent.send("reply", { stream: call.stream });
    await ending;
  });
});

describe("the end of a connection", () => {
  test("ends everything on it", async () => {
    const { agent, connection } = await FakeAgent.connected();
    const streams = [1, 2, 3].map(() => connection.exec(cat, ignore));
    const calling = connection.call("ping", new FieldWriter(), ample());
    agent.vanish();
    for (const { exited } of streams) await expect(exited).rejects.toMatchObject({ code: "CHANNEL_CLOSED" });
    await expect(calling).rejects.toMatchObject({ code: "CHANNEL_CLOSED" });
    expect(await connection.closed).toMatchObject({ code: "CHANNEL_CLOSED" });
    expect(connection.isOpen).toBe(false);
    expect(() => connection.exec(cat, ignore)).toThrow(expect.objectContaining({ code: "CHANNEL_CLOSED" }));
    await expect(connection.call("ping", new FieldWriter(), ample())).rejects.toMatchObject({ code: "CHANNEL_CLOSED" });
  });

  test("closing twice is fine, and nothing is delivered after it", async () => {
    const { agent, connection } = await FakeAgent.connected();
    const sink = vi.fn();
    const { exited } = connection.exec(cat, sink);
    connection.close();
    connection.close();
    agent.stdout(1, "late");
    await expect(exited).rejects.toMatchObject({ code: "CHANNEL_CLOSED" });
    expect(sink).not.toHaveBeenCalled();
  });

  test("a FATAL from the agent is its reason", async () => {
    const { agent, connection } = await FakeAgent.connected();
    const { exited } = connection.exec(cat, ignore);
    agent.send("fatal", { payload: new FieldWriter().text(1, "EPROTO").text(2, "wrong magic").finish() });
    await expect(exited).rejects.toMatchObject({ code: "PROTOCOL_ERROR", details: { agentCode: "EPROTO" } });
  });
});

describe("a guest that breaks the protocol loses the connection", () => {
  const breaches: [string, (agent: FakeAgent) => void][] = [
    ["a frame for a stream that never was", (agent) => agent.stdout(99, "x")],
    ["a frame for a stream that has ended", (agent) => [agent.exited(1, 0), agent.exited(1, 0)]],
    ["output on channel 0", (agent) => agent.send("data", { stream: 1, channel: 0, payload: Buffer.from("x") })],
    [
      "more data than credit",
      (agent) => {
        for (let i = 0; i < 5; i++) agent.stdout(1, Buffer.alloc(65_536));
      },
    ],
    ["a reply to a command", (agent) => agent.send("reply", { stream: 1 })],
    ["started twice", (agent) => [agent.started(1), agent.started(1)]],
    ["exit code 256", (agent) => agent.exited(1, 256)],
    ["exit code 2^32 - 1", (agent) => agent.exited(1, 2 ** 32 - 1)],
    ["no exit code at all", (agent) => agent.send("exited", { stream: 1 })],
    ["signal 0", (agent) => agent.killedBy(1, 0)],
    ["signal 65", (agent) => agent.killedBy(1, 65)],
    [
      "an exit code of eight bytes",
      (agent) => agent.send("exited", { stream: 1, payload: new FieldWriter().u64(1, 0n).finish() }),
    ],
    ["too much credit", (agent) => agent.credit(1, 2 ** 32 - 1)],
    ["credit for an output", (agent) => agent.send("credit", { stream: 1, channel: 1, payload: Buffer.alloc(4) })],
    ["a payload that is no field list", (agent) => agent.send("started", { stream: 1, payload: Buffer.from([1, 0]) })],
    ["bytes that are no frame", (agent) => agent.raw(Buffer.alloc(32, 7))],
    ["an answer of the wrong kind to a call", (agent) => agent.started(2)],
  ];

  test.each(breaches)("%s", async (_what, breach) => {
    const { agent, connection } = await FakeAgent.connected();
    const hold = () => new Promise<void>(() => {});
    const { exited } = connection.exec(cat, hold);
    const calling = connection.call("ping", new FieldWriter(), ample());
    calling.catch(ignore);
    await agent.next("call");
    breach(agent);
    expect(await connection.closed).toEqual(isProtocolError);
    await expect(calling).rejects.toEqual(isProtocolError);
    await Promise.race([exited.catch(ignore), new Promise((resolve) => setTimeout(resolve, 5))]);
    expect(agent.lane.destroyed).toBe(true);
  });
});

test("random frames after the welcome never crash the program", async () => {
  const names = Object.keys(FRAME_TYPE) as FrameName[];
  // A fixed sequence: a failure can be repeated.
  let seed = 20_261_124;
  const random = (below: number) => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
    return (seed >>> 8) % below;
  };
  for (let round = 0; round < 60; round++) {
    const { agent, connection } = await FakeAgent.connected();
    const sinks = [
      ignore,
      () => {
        throw new Error("sink");
      },
      () => Promise.reject(new Error("sink")),
    ];
    for (const sink of sinks) connection.exec({ ...cat, hasStdin: true }, sink);
    connection.call("ping", new FieldWriter(), ample()).catch(ignore);
    for (let count = 0; count < 30; count++) {
      const payload =
        random(3) === 0 ? new FieldWriter().u32(1 + random(3), random(300)).finish() : randomBytes(random(40));
      const name = random(2) === 0 ? "data" : names[random(names.length)]!;
      agent.send(name, { stream: random(6), channel: random(4), payload });
    }
    agent.raw(randomBytes(64));
    expect(await connection.closed).toMatchObject({ code: expect.stringMatching(/^(PROTOCOL_ERROR|CHANNEL_CLOSED)$/) });
  }
});
