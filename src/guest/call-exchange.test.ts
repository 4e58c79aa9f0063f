import { expect, test } from "vitest";
import { Deadline } from "../base/deadline.js";
import { deferred } from "../base/deferred.js";
import { FieldReader, FieldWriter } from "./fields.js";
import { CHANNEL, INITIAL_CREDIT_BYTES } from "./frame.js";
import { GuestRefusal } from "./guest-refusal.js";
import { FakeAgent } from "./testing/fake-agent.js";

const tick = () => new Promise((resolve) => setTimeout(resolve, 10));
const soon = () => Deadline.after(5_000);

test("data goes both ways, and the answer comes after the last of it was consumed", async () => {
  const { agent, connection } = await FakeAgent.connected();
  const consumed = deferred<void>();
  const got: string[] = [];
  const exchange = connection.exchange("trade", new FieldWriter().text(10, "/x"), {
    deadline: soon(),
    onData: (data, channel) => {
      got.push(`${channel}:${data}`);
      return consumed.promise;
    },
  });
  const call = new FieldReader((await agent.next("call")).payload);
  expect([call.text(1), call.text(10)]).toEqual(["trade", "/x"]);
  await exchange.write(Buffer.from("to the guest"));
  exchange.end();
  exchange.end();
  expect((await agent.next("data")).payload.toString()).toBe("to the guest");
  await agent.next("end");
  agent.stdout(1, "one");
  agent.stderr(1, "two");
  agent.send("reply", { stream: 1, payload: new FieldWriter().u32(4, 9).finish() });
  let isAnswered = false;
  void exchange.reply.then(() => {
    isAnswered = true;
  });
  await tick();
  expect(isAnswered).toBe(false);
  consumed.resolve();
  expect((await exchange.reply).u32(4)).toBe(9);
  expect(got).toEqual(["stdout:one", "stderr:two"]);
  expect(exchange.isOpen).toBe(false);
  expect(agent.all("end")).toHaveLength(1);
});

test("a writer waits for credit, and is let go when the call ends", async () => {
  const { agent, connection } = await FakeAgent.connected();
  const exchange = connection.exchange("trade", new FieldWriter(), { deadline: soon() });
  let isWritten = false;
  const writing = exchange.write(Buffer.alloc(3 * INITIAL_CREDIT_BYTES)).then(() => {
    isWritten = true;
  });
  const sent = () => agent.all("data").reduce((sum, { payload }) => sum + payload.length, 0);
  await tick();
  expect([sent(), isWritten]).toEqual([INITIAL_CREDIT_BYTES, false]);
  agent.credit(1, INITIAL_CREDIT_BYTES);
  await tick();
  expect([sent(), isWritten]).toEqual([2 * INITIAL_CREDIT_BYTES, false]);
  agent.failed(1, "ENOSPC", "the disk is full");
  await writing;
  const error = await exchange.reply.catch((caught: unknown) => caught);
  expect(error).toBeInstanceOf(GuestRefusal);
  expect(error).toMatchObject({ errno: "ENOSPC", operation: "trade", guestMessage: "the disk is full" });
});

test("a deadline cancels it, and the caller hears of it once the agent has undone its work", async () => {
  const { agent, connection } = await FakeAgent.connected();
  const controller = new AbortController();
  const exchange = connection.exchange("trade", new FieldWriter(), {
    deadline: Deadline.after(60_000, controller.signal),
    onData: () => {},
  });
  let isSettled = false;
  void exchange.reply.catch(() => {
    isSettled = true;
  });
  controller.abort();
  await agent.next("kill");
  await tick();
  expect([isSettled, exchange.isOpen]).toEqual([false, false]);
  agent.stdout(1, "late");
  agent.failed(1, "ECANCELED", "cancelled");
  await expect(exchange.reply).rejects.toMatchObject({ code: "ABORTED" });
  expect(connection.isOpen).toBe(true);
});

test.each(["failed", "reply"] as const)("what onData throws is the caller's error when %s follows", async (name) => {
  const { agent, connection } = await FakeAgent.connected();
  const exchange = connection.exchange("trade", new FieldWriter(), {
    deadline: soon(),
    onData: () => {
      throw new Error("host disk full");
    },
  });
  agent.stdout(1, "x");
  await agent.next("kill");
  agent.stdout(1, "y");
  agent.send(name, { stream: 1, payload: new FieldWriter().text(1, "ECANCELED").finish() });
  await expect(exchange.reply).rejects.toThrow("host disk full");
});

test("an answer that came before the sink failed does not hide the failure", async () => {
  const { agent, connection } = await FakeAgent.connected();
  const gate = deferred<void>();
  const exchange = connection.exchange("trade", new FieldWriter(), {
    deadline: soon(),
    onData: async () => {
      await gate.promise;
      throw new Error("host disk full");
    },
  });
  agent.stdout(1, "x");
  agent.send("reply", { stream: 1 });
  await tick();
  gate.resolve();
  await expect(exchange.reply).rejects.toThrow("host disk full");
});

test.each([
  ["more than its credit", (agent: FakeAgent) => sendTooMuch(agent)],
  ["data that nobody takes", (agent: FakeAgent) => agent.stdout(2, "x")],
  ["a start", (agent: FakeAgent) => agent.started(1)],
  ["an exit", (agent: FakeAgent) => agent.exited(1, 0)],
  ["data on channel 0", (agent: FakeAgent) => agent.send("data", { stream: 1, payload: Buffer.from("x") })],
])("an agent that sends %s breaks the protocol or the call, never the program", async (_what, misbehave) => {
  const { agent, connection } = await FakeAgent.connected();
  const held = new Promise<void>(() => {});
  const first = connection.exchange("trade", new FieldWriter(), { deadline: soon(), onData: () => held });
  const second = connection.exchange("trade", new FieldWriter(), { deadline: soon() });
  await agent.next("call");
  misbehave(agent);
  await tick();
  if (connection.isOpen) agent.failed(2, "ECANCELED", "");
  const error = await (connection.isOpen ? second : first).reply.catch((caught: unknown) => caught);
  expect(error).toMatchObject({ code: "PROTOCOL_ERROR" });
});

function sendTooMuch(agent: FakeAgent): void {
  const piece = Buffer.alloc(65_536);
  for (let sent = 0; sent <= INITIAL_CREDIT_BYTES; sent += piece.length) {
    agent.send("data", { stream: 1, channel: CHANNEL.stdout, payload: piece });
  }
}
