import { PassThrough } from "node:stream";
import { afterEach, describe, expect, test, vi } from "vitest";
import { Deadline } from "../base/deadline.js";
import type { CommandInput } from "./command-input.js";
import type { CommandResult } from "./command-result.js";
import { FieldReader } from "./fields.js";
import { type RunRequest, runCommand } from "./run-command.js";
import { FakeAgent } from "./testing/fake-agent.js";

const ample = () => Deadline.after(5_000);
const request: RunRequest = { command: { argv: ["true"] }, maxOutputBytes: 1000 };

async function* brokenInput(): AsyncGenerator<string> {
  yield "a";
  throw new RangeError("source broke");
}

const tick = () => new Promise((resolve) => setTimeout(resolve, 10));

afterEach(() => void vi.useRealTimers());

test("a command that says something and exits", async () => {
  const { agent, connection } = await FakeAgent.connected();
  const running = runCommand(connection, request, ample());
  await agent.next("exec");
  agent.started(1);
  agent.stdout(1, "  hello ");
  agent.stderr(1, "oh");
  agent.stdout(1, "grüße\n");
  agent.stderr(1, " no");
  agent.send("end", { stream: 1, channel: 1 });
  agent.send("end", { stream: 1, channel: 2 });
  agent.exited(1, 0);
  expect(await running).toEqual({
    exitCode: 0,
    signal: null,
    stdout: "  hello grüße\n",
    stderr: "oh no",
    output: "hello grüße",
    ok: true,
    timedOut: false,
    truncated: false,
    durationMs: expect.any(Number),
  });
});

test("an exit code and a signal, as a shell reports them", async () => {
  const { agent, connection } = await FakeAgent.connected();
  const first = runCommand(connection, request, ample());
  agent.exited((await agent.next("exec")).stream, 255);
  expect(await first).toMatchObject({ exitCode: 255, signal: null, ok: false });
  const second = runCommand(connection, request, ample());
  agent.killedBy((await agent.next("exec")).stream, 15);
  expect(await second).toMatchObject({ exitCode: 143, signal: "SIGTERM", ok: false, timedOut: false });
  const third = runCommand(connection, request, ample());
  agent.killedBy((await agent.next("exec")).stream, 40);
  expect(await third).toMatchObject({ exitCode: 168, signal: "SIG40" });
});

test.each(["ENOENT", "EACCES", "E2BIG", "EUSER"])("what cannot be started for %s", async (errno) => {
  const { agent, connection } = await FakeAgent.connected();
  const running = runCommand(connection, { ...request, command: { argv: ["x", "y".repeat(1_100_000)] } }, ample());
  agent.failed((await agent.next("exec")).stream, errno, "cannot be run");
  await expect(running).rejects.toMatchObject({ code: "COMMAND_FAILED", details: { errno } });
});

test("arguments that fit no frame are refused before anything is sent", async () => {
  const { agent, connection } = await FakeAgent.connected();
  const command = { argv: ["x", ...Array.from({ length: 5 }, () => "y".repeat(1024 * 1024))] };
  await expect(runCommand(connection, { ...request, command }, ample())).rejects.toMatchObject({
    code: "COMMAND_FAILED",
    details: { errno: "E2BIG", limitBytes: 4 * 1024 * 1024 },
  });
  await tick();
  expect(agent.all("exec")).toEqual([]);
  expect(connection.isOpen).toBe(true);
});

describe("cut short", () => {
  test("by its timeout: KILL, then the result so far", async () => {
    const { agent, connection } = await FakeAgent.connected();
    const running = runCommand(connection, request, Deadline.after(40));
    running.catch(() => {});
    agent.stdout(1, "half");
    await agent.next("kill");
    agent.stdout(1, " way");
    agent.killedBy(1, 9);
    await expect(running).rejects.toMatchObject({
      code: "COMMAND_TIMEOUT",
      details: { timeoutMs: 40, stdout: "half way" },
      result: { stdout: "half way", timedOut: true, signal: "SIGKILL", exitCode: 137, ok: false },
    });
    expect(connection.isOpen).toBe(true);
  });

  test("by the caller: KILL, then the result so far", async () => {
    const { agent, connection } = await FakeAgent.connected();
    const abort = new AbortController();
    const running = runCommand(connection, request, Deadline.after(5_000, abort.signal));
    running.catch(() => {});
    agent.stdout(1, "half");
    await tick();
    const reason = new Error("enough");
    abort.abort(reason);
    await agent.next("kill");
    agent.killedBy(1, 9);
    await expect(running).rejects.toMatchObject({
      code: "ABORTED",
      cause: reason,
      result: { stdout: "half", timedOut: false },
    });
  });

  test("before it began: nothing is sent", async () => {
    const { agent, connection } = await FakeAgent.connected();
    const running = runCommand(connection, request, Deadline.after(5_000, AbortSignal.abort()));
    await expect(running).rejects.toMatchObject({ code: "ABORTED" });
    await tick();
    expect(agent.all("exec")).toEqual([]);
  });

  test("with an agent that never says it is dead", async () => {
    const { agent, connection } = await FakeAgent.connected();
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    const running = runCommand(connection, request, Deadline.after(30));
    running.catch(() => {});
    await vi.advanceTimersByTimeAsync(30);
    vi.useRealTimers();
    await agent.next("kill");
    await expect(Promise.race([running, tick()])).resolves.toBeUndefined();

    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    const second = runCommand(connection, request, Deadline.after(30));
    second.catch(() => {});
    await vi.advanceTimersByTimeAsync(30);
    await vi.advanceTimersByTimeAsync(10_000);
    await expect(second).rejects.toMatchObject({
      code: "COMMAND_TIMEOUT",
      result: { signal: "SIGKILL", timedOut: true },
    });
    vi.useRealTimers();
    // The agent kills what belongs to a connection that has ended; nothing here waits for it any more.
    expect(connection.isOpen).toBe(false);
    expect(agent.lane.destroyed).toBe(true);
    await expect(running).rejects.toMatchObject({ code: "COMMAND_TIMEOUT" });
  });

  test("with a sink that never resolves: the kill was confirmed, so the connection stays", async () => {
    const { agent, connection } = await FakeAgent.connected();
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    const running = runCommand(connection, { ...request, onOutput: () => new Promise(() => {}) }, Deadline.after(30));
    running.catch(() => {});
    agent.stdout(1, "x");
    await vi.advanceTimersByTimeAsync(30);
    agent.killedBy(1, 9);
    await vi.advanceTimersByTimeAsync(10_000);
    await expect(running).rejects.toMatchObject({ code: "COMMAND_TIMEOUT", result: { stdout: "x" } });
    expect([connection.isOpen, vi.getTimerCount()]).toEqual([true, 0]);
  });

  test.each([
    ["sink", { onOutput: () => Promise.reject(new TypeError("mine")) }],
    ["stdin", { stdin: brokenInput() }],
  ])("because of its %s, with an agent that never says it is dead", async (_what, options) => {
    const { agent, connection } = await FakeAgent.connected();
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    const running = runCommand(connection, { ...request, ...options }, Deadline.after(60_000));
    running.catch(() => {});
    agent.stdout(1, "x");
    await vi.advanceTimersByTimeAsync(100);
    await expect(running).rejects.toThrow();
    expect(connection.isOpen).toBe(true);
    await vi.advanceTimersByTimeAsync(10_000);
    expect([connection.isOpen, vi.getTimerCount()]).toEqual([false, 0]);
  });

  test("by the end of the connection", async () => {
    const { agent, connection } = await FakeAgent.connected();
    const running = [1, 2, 3].map(() => runCommand(connection, request, ample()));
    await agent.next("exec");
    agent.vanish();
    for (const one of running) await expect(one).rejects.toMatchObject({ code: "CHANNEL_CLOSED" });
  });
});

describe("outputs", () => {
  test("the agent is asked to drop what we would drop, unless somebody else sees it", async () => {
    const { agent, connection } = await FakeAgent.connected();
    const alone = runCommand(connection, { ...request, maxOutputBytes: 77 }, ample());
    const watched = runCommand(connection, { ...request, maxOutputBytes: 4, onOutput: () => {} }, ample());
    expect(new FieldReader((await agent.next("exec")).payload).u64(5)).toBe(77n);
    expect(new FieldReader((await agent.next("exec")).payload).u64(5)).toBeUndefined();
    agent.exited(1, 0);
    agent.stdout(2, "abcdef");
    agent.exited(2, 0);
    expect(await alone).toMatchObject({ truncated: false });
    expect(await watched).toMatchObject({ stdout: "abcd", truncated: true });
  });

  test.each([
    ["stdout", { stdout: 5n }],
    ["stderr", { stderr: 1n }],
  ])("%s that the agent dropped makes it truncated", async (_name, dropped) => {
    const { agent, connection } = await FakeAgent.connected();
    const running = runCommand(connection, request, ample());
    agent.exited((await agent.next("exec")).stream, 0, dropped);
    expect(await running).toMatchObject({ truncated: true, ok: true });
  });

  test("a character that the agent's limit cut in half is left out", async () => {
    const { agent, connection } = await FakeAgent.connected();
    const running = runCommand(connection, { ...request, maxOutputBytes: 6 }, ample());
    await agent.next("exec");
    agent.stdout(1, Buffer.from("grüß🐧").subarray(0, 5));
    agent.stderr(1, Buffer.from("abcd🐧").subarray(0, 6));
    agent.exited(1, 0, { stderr: 2n });
    expect(await running).toMatchObject({ stderr: "abcd", truncated: true });
  });

  test("all of it passes the caller's sink, which holds the command back", async () => {
    const { agent, connection } = await FakeAgent.connected();
    const seen: string[] = [];
    const onOutput = async (name: string, data: Buffer) => {
      await tick();
      seen.push(`${name} ${data}`);
    };
    const running = runCommand(connection, { ...request, onOutput }, ample());
    await agent.next("exec");
    agent.stdout(1, "a");
    agent.stderr(1, "b");
    agent.exited(1, 0);
    await running;
    expect(seen).toEqual(["stdout a", "stderr b"]);
  });

  test("an error of the caller's sink is thrown as it is", async () => {
    const { agent, connection } = await FakeAgent.connected();
    const onOutput = () => {
      throw new TypeError("mine");
    };
    const running = runCommand(connection, { ...request, onOutput }, ample());
    await agent.next("exec");
    agent.stdout(1, "a");
    await expect(running).rejects.toThrow(TypeError);
    await agent.next("kill");
  });
});

describe("stdin", () => {
  async function inputUntilEnd(agent: FakeAgent): Promise<string> {
    await agent.next("end");
    return Buffer.concat(agent.all("data").map(({ payload }) => payload)).toString("utf8");
  }

  async function* parts(): AsyncGenerator<string | Buffer> {
    yield "grü";
    await tick();
    yield Buffer.from("ße");
  }

  const inputs: [string, () => CommandInput][] = [
    ["a text", () => "grüße"],
    ["bytes", () => Buffer.from("xxgrüßexx").subarray(2, 9)],
    ["an async iterable", parts],
    ["an empty text", () => ""],
  ];

  test.each(inputs)("%s", async (_what, stdin) => {
    const { agent, connection } = await FakeAgent.connected();
    const running = runCommand(connection, { ...request, stdin: stdin() }, ample());
    expect(new FieldReader((await agent.next("exec")).payload).bytes(9)).toEqual(Buffer.from([1]));
    expect(await inputUntilEnd(agent)).toBe(stdin() === "" ? "" : "grüße");
    agent.exited(1, 0);
    await running;
  });

  test("without one there is none", async () => {
    const { agent, connection } = await FakeAgent.connected();
    const running = runCommand(connection, request, ample());
    expect(new FieldReader((await agent.next("exec")).payload).bytes(9)).toBeUndefined();
    agent.exited(1, 0);
    await running;
    expect(agent.all("end")).toEqual([]);
  });

  test("an iterator that throws has the command killed", async () => {
    const { agent, connection } = await FakeAgent.connected();
    async function* broken() {
      yield "a";
      throw new Error("source broke");
    }
    const running = runCommand(connection, { ...request, stdin: broken() }, ample());
    await expect(running).rejects.toMatchObject({ code: "COMMAND_FAILED", cause: { message: "source broke" } });
    await agent.next("kill");
    // What the dying command still says harms nobody.
    agent.stdout(1, "x");
    agent.killedBy(1, 9);
    await tick();
    expect(connection.isOpen).toBe(true);
  });

  test("an endless one ends with the command, and its source is closed", async () => {
    const { agent, connection } = await FakeAgent.connected();
    let isClosed = false;
    async function* endless(): AsyncGenerator<Buffer> {
      try {
        for (;;) {
          yield Buffer.alloc(1000);
          await new Promise((resolve) => setImmediate(resolve));
        }
      } finally {
        isClosed = true;
      }
    }
    const running: Promise<CommandResult> = runCommand(connection, { ...request, stdin: endless() }, ample());
    await agent.next("data");
    agent.exited(1, 0);
    expect(await running).toMatchObject({ ok: true });
    await tick();
    expect(isClosed).toBe(true);
  });

  const waiting: [string, () => { input: CommandInput; isLetGo: () => boolean }][] = [
    [
      "an iterator",
      () => {
        const end = vi.fn(async () => ({ done: true as const, value: undefined }));
        const iterator = { next: () => new Promise<IteratorResult<string>>(() => {}), return: end };
        return { input: { [Symbol.asyncIterator]: () => iterator }, isLetGo: () => end.mock.calls.length === 1 };
      },
    ],
    [
      "a stream",
      () => {
        const input = new PassThrough();
        input.write("a");
        return { input, isLetGo: () => input.destroyed };
      },
    ],
  ];

  test.each(waiting)("%s that waits for more is let go when the command ends", async (_what, make) => {
    const { agent, connection } = await FakeAgent.connected();
    const { input, isLetGo } = make();
    const running = runCommand(connection, { ...request, stdin: input }, ample());
    await agent.next("exec");
    await tick();
    expect(isLetGo()).toBe(false);
    agent.exited(1, 0);
    await running;
    await tick();
    expect(isLetGo()).toBe(true);
  });

  test.each(waiting)("%s that waits for more is let go when the command is killed", async (_what, make) => {
    const { agent, connection } = await FakeAgent.connected();
    const { input, isLetGo } = make();
    const running = runCommand(connection, { ...request, stdin: input }, Deadline.after(20));
    running.catch(() => {});
    await agent.next("kill");
    await tick();
    expect(isLetGo()).toBe(true);
    agent.killedBy(1, 9);
    await expect(running).rejects.toMatchObject({ code: "COMMAND_TIMEOUT" });
  });

  test("a stream that is let go is no failure of a command whose last output is still being taken", async () => {
    const { agent, connection } = await FakeAgent.connected();
    const onOutput = async () => void (await tick());
    const running = runCommand(connection, { ...request, stdin: new PassThrough(), onOutput }, ample());
    await agent.next("exec");
    agent.stdout(1, "last words");
    agent.exited(1, 0);
    expect(await running).toMatchObject({ ok: true, stdout: "last words" });
  });

  test("one that cannot even begin has the command killed", async () => {
    const { agent, connection } = await FakeAgent.connected();
    const stdin = {
      [Symbol.asyncIterator]: () => {
        throw new RangeError("no");
      },
    };
    const running = runCommand(connection, { ...request, stdin }, ample());
    await expect(running).rejects.toMatchObject({ code: "COMMAND_FAILED", cause: { message: "no" } });
    await agent.next("kill");
  });

  test("one that was read to its end is not told to stop", async () => {
    const { agent, connection } = await FakeAgent.connected();
    const end = vi.fn(async () => ({ done: true as const, value: undefined }));
    const iterator = { next: async () => ({ done: true as const, value: undefined }), return: end };
    const running = runCommand(connection, { ...request, stdin: { [Symbol.asyncIterator]: () => iterator } }, ample());
    await agent.next("end");
    agent.exited(1, 0);
    await running;
    await tick();
    expect(end).not.toHaveBeenCalled();
  });
});
