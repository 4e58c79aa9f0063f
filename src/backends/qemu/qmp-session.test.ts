import { mkdtemp, rm } from "node:fs/promises";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test, vi } from "vitest";
import { Deadline } from "../../base/deadline.js";
import { QmpSession } from "./qmp-session.js";
import { fakeMonitor } from "./testing/fake-monitor.js";

const ample = () => Deadline.after(5_000);

async function session(path: string): Promise<QmpSession> {
  const open = await QmpSession.open(path, ample());
  onTestFinished(() => open.close());
  return open;
}

test("answers belong to their commands, though several are under way and one is refused", async () => {
  const { path } = await fakeMonitor(({ execute }, say) =>
    say(execute === "bad" ? { error: { class: "GenericError", desc: "no" } } : { return: execute }),
  );
  const open = await session(path);
  const answers = ["one", "bad", "two"].map((execute) => open.execute({ execute }, ample()));
  expect(await Promise.allSettled(answers)).toMatchObject([
    { value: "one" },
    { reason: { code: "INTERNAL", message: 'QEMU refused "bad": no' } },
    { value: "two" },
  ]);
});

test("a command that nobody waits for any more takes its answer along", async () => {
  let answerLate = () => {};
  const { path } = await fakeMonitor(({ execute }, say) => {
    if (execute === "slow") answerLate = () => say({ return: "late" });
    else if (execute === "next") {
      answerLate();
      say({ return: "mine" });
    } else say({ return: {} });
  });
  const open = await session(path);
  await expect(open.execute({ execute: "slow" }, Deadline.after(20))).rejects.toMatchObject({ code: "TIMEOUT" });
  const abort = new AbortController();
  const aborted = open.execute({ execute: "next" }, Deadline.after(5_000, abort.signal));
  abort.abort();
  await expect(aborted).rejects.toMatchObject({ code: "ABORTED" });
  expect(await open.execute({ execute: "next" }, ample())).toBe("late"); // Said twice by this monitor.
});

test("an event is seen from the watch on, also when it comes before the wait", async () => {
  const { path } = await fakeMonitor(({ execute }, say) => {
    if (execute === "go") {
      say({ event: "OTHER", data: { id: "mine" } });
      say({ event: "DONE", data: { id: "theirs" } });
      say({ event: "DONE", data: { id: "mine", n: 1 } });
      say({ event: "DONE", data: { id: "mine", n: 2 } });
    }
    say({ return: {} });
  });
  const open = await session(path);
  await open.execute({ execute: "before" }, ample());
  const seen = open.watch(({ event, data }) => event === "DONE" && data["id"] === "mine");
  const never = open.watch(({ event }) => event === "NEVER");
  await open.execute({ execute: "go" }, ample());
  expect(await seen(ample())).toEqual({ event: "DONE", data: { id: "mine", n: 1 } });
  await expect(never(Deadline.after(10))).rejects.toMatchObject({ code: "TIMEOUT" });
});

test.each([["DATA"], [null], [5]])("an event with the data %j has none", async (data) => {
  const { path } = await fakeMonitor((_command, say) => {
    say({ event: "X", data });
    say({ return: {} });
  });
  const open = await session(path);
  expect((await open.watch(() => true)(ample())).event).toBe("X");
});

test("a monitor that hangs up fails what is under way, what is watched and what comes later", async () => {
  let client: Socket | undefined;
  const { path } = await fakeMonitor(({ execute }, say, socket) => {
    if (execute === "hang") client = socket;
    else say({ return: {} });
  });
  const open = await session(path);
  const watched = open.watch(() => false);
  const hanging = open.execute({ execute: "hang" }, ample());
  await vi.waitFor(() => expect(client).toBeDefined());
  client?.destroy();
  const closed = { code: "CHANNEL_CLOSED" };
  await expect(hanging).rejects.toMatchObject(closed);
  await expect(watched(ample())).rejects.toMatchObject(closed);
  await expect(open.execute({ execute: "more" }, ample())).rejects.toMatchObject(closed);
  await expect(open.watch(() => true)(ample())).rejects.toMatchObject(closed);
});

test("one that was closed says so, and leaves the monitor", async () => {
  const { path, isAlone } = await fakeMonitor((_command, say) => say({ return: {} }));
  const open = await session(path);
  await open.execute({ execute: "x" }, ample());
  open.close();
  open.close();
  await expect(open.execute({ execute: "x" }, ample())).rejects.toMatchObject({ code: "CHANNEL_CLOSED" });
  await vi.waitFor(() => expect(isAlone()).toBe(true));
});

test("a monitor that is not there", async () => {
  const directory = await mkdtemp(join(tmpdir(), "smolvm-qmp-"));
  onTestFinished(() => rm(directory, { recursive: true }));
  await expect(QmpSession.open(join(directory, "qmp"), ample())).rejects.toMatchObject({
    code: "CHANNEL_CLOSED",
    cause: { code: "ENOENT" },
  });
});

test("a monitor that is busy with another is waited for, within the deadline", async () => {
  // Nothing is answered until the first client has left, as QEMU does it.
  const waiting: (() => void)[] = [];
  let first: Socket | undefined;
  const { path } = await fakeMonitor(({ execute }, say, socket) => {
    first ??= socket;
    if (socket === first) say({ return: execute });
    else if (first.destroyed) say({ return: execute });
    else waiting.push(() => say({ return: execute }));
    first.once("close", () => {
      for (const answer of waiting.splice(0)) answer();
    });
  });
  const one = await session(path);
  await one.execute({ execute: "a" }, ample());
  const two = await session(path);
  await expect(two.execute({ execute: "b" }, Deadline.after(30))).rejects.toMatchObject({ code: "TIMEOUT" });
  const patient = two.execute({ execute: "c" }, ample());
  one.close();
  expect(await patient).toBe("c");
});
