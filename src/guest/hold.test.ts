import { expect, test } from "vitest";
import { Deadline } from "../base/deadline.js";
import type { GuestConnection } from "./connection.js";
import { FieldReader, FieldWriter } from "./fields.js";
import { holdCommands, releaseCommands, settleGuest } from "./hold.js";
import { FakeAgent } from "./testing/fake-agent.js";

const ample = () => Deadline.after(5_000);

test.each([
  ["hold", (connection: GuestConnection) => holdCommands(connection, 1_500, ample()), 1_500],
  ["release", (connection: GuestConnection) => releaseCommands(connection, ample()), undefined],
  ["settle", (connection: GuestConnection) => settleGuest(connection, ample()), undefined],
])("%s names itself and waits for the guest's answer", async (operation, ask, limitMs) => {
  const { agent, connection } = await FakeAgent.connected();
  let isDone = false;
  const asking = ask(connection).then(() => {
    isDone = true;
  });
  const { stream, payload } = await agent.next("call");
  const fields = new FieldReader(payload);
  expect([fields.text(1), fields.u32(10)]).toEqual([operation, limitMs]);
  expect(isDone).toBe(false);
  agent.send("reply", { stream, payload: new FieldWriter().finish() });
  await asking;
});

test("release brings the host's clock", async () => {
  const { agent, connection } = await FakeAgent.connected();
  const before = BigInt(Date.now()) * 1_000_000n;
  void releaseCommands(connection, ample()).catch(() => {});
  const { payload } = await agent.next("call");
  const clock = new FieldReader(payload).u64(12) ?? 0n;
  expect(clock >= before && clock <= BigInt(Date.now()) * 1_000_000n).toBe(true);
});

test("a guest that cannot hold says so", async () => {
  const { agent, connection } = await FakeAgent.connected();
  const holding = holdCommands(connection, 1_500, ample());
  agent.failed((await agent.next("call")).stream, "ENOSYS", "unknown operation");
  await expect(holding).rejects.toMatchObject({ code: "INTERNAL", details: { errno: "ENOSYS" } });
});
