import { expect, test, vi } from "vitest";
import { Deadline } from "../../base/deadline.js";
import { qmp } from "./qmp.js";
import { fakeMonitor as monitor } from "./testing/fake-monitor.js";

const EVENT = { timestamp: { seconds: 1, microseconds: 2 }, event: "STOP" };
const ample = () => Deadline.after(5_000);

test("greets, negotiates, asks in order and leaves", async () => {
  const { path, heard, isAlone } = await monitor(({ execute: command }, say) => say({ return: { did: command } }));
  const commands = [{ execute: "stop" }, { execute: "query-status", arguments: { full: true } }];
  expect(await qmp(path, commands, ample())).toEqual([{ did: "stop" }, { did: "query-status" }]);
  expect(heard).toEqual([{ execute: "qmp_capabilities" }, ...commands]);
  await vi.waitFor(() => expect(isAlone()).toBe(true));
});

test("events in between are no answers", async () => {
  const { path } = await monitor(({ execute: command }, say) => {
    say(EVENT);
    say({ return: command });
    say(EVENT);
  });
  expect(await qmp(path, [{ execute: "stop" }, { execute: "cont" }], ample())).toEqual(["stop", "cont"]);
});

test("an answer in pieces is one answer", async () => {
  const { path } = await monitor(({ execute: command }, say) => {
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
  const { path } = await monitor(({ execute: command }, say) =>
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
  const midway = await monitor(({ execute: command }, say, socket) => {
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
  const { path } = await monitor((_command, say) => {
    for (let count = 0; count < 3; count++) say({ return: {} });
  });
  expect(await qmp(path, [{ execute: "stop" }], ample())).toEqual([{}]);
});
