// Output of any amount: bounded memory, back pressure, no deadlock.

import { afterAll, beforeAll, expect, it } from "vitest";
import { SmolVM, type Vm } from "../support/smolvm.js";
import { testState } from "../support/state.js";
import { eventually, pause, rejection } from "../support/wait.js";

const state = testState();
const MIB = 1024 * 1024;
let vm: Vm;

beforeAll(async () => {
  vm = await SmolVM.create(state.config());
});

afterAll(() => vm?.delete());

it("keeps what was asked for and says that it is not all", async () => {
  const result = await vm.run("seq 1 100000; seq 1 100000 >&2", { maxOutputBytes: 1000 });
  expect([result.truncated, result.ok]).toEqual([true, true]);
  expect([result.stdout.length, result.stderr.length]).toEqual([1000, 1000]);
  expect((await vm.run("printf '%01000d' 0", { maxOutputBytes: 1000 })).truncated).toBe(false);
});

it("drops most of 100 MiB without needing memory for it", async () => {
  await vm.run("head -c 11M /dev/zero"); // What the first use of a path needs is not this command's.
  const before = process.memoryUsage().rss;
  let peak = before;
  const timer = setInterval(() => {
    peak = Math.max(peak, process.memoryUsage().rss);
  }, 50);
  const result = await vm.exec(["head", "-c", String(100 * MIB), "/dev/zero"]);
  clearInterval(timer);
  expect([result.truncated, result.exitCode]).toEqual([true, 0]);
  expect(result.stdout.length).toBeLessThanOrEqual(10 * MIB);
  expect(Math.max(peak, process.memoryUsage().rss) - before).toBeLessThan(64 * MIB);
});

it("shows all of 100 MiB to onOutput", async () => {
  let seen = 0;
  const onOutput = (_stream: string, data: Buffer) => {
    seen += data.length;
  };
  const result = await vm.exec(["head", "-c", String(100 * MIB), "/dev/zero"], { onOutput });
  expect([seen, result.truncated]).toEqual([100 * MIB, true]); // Truncated: what the result holds.
});

it("holds the writer back while a consumer is busy", async () => {
  const rounds = 100;
  const line = `i=0; while [ $i -lt ${rounds} ]; do head -c 262144 /dev/zero; i=$((i+1)); echo $i > /tmp/round; done`;
  let letGo = () => {};
  const busy = new Promise<void>((resolve) => {
    letGo = resolve;
  });
  let seen = 0;
  const written = vm.run(line, {
    onOutput: (_stream, data) => {
      seen += data.length;
      return busy;
    },
  });
  const round = async () => Number((await vm.exec(["cat", "/tmp/round"])).output);
  // It stands still well before its end, on the same connection that answers these questions.
  const stopped = await eventually(async () => {
    const before = await round();
    await pause(500);
    return before > 0 && (await round()) === before ? before : undefined;
  });
  expect(stopped).toBeLessThan(rounds / 4);
  letGo();
  expect((await written).exitCode).toBe(0);
  expect(seen).toBe(rounds * 262_144);
});

it("does not deadlock over stderr before stdout, or both in turns", async () => {
  const result = await vm.run("head -c 1M /dev/zero >&2; head -c 1M /dev/zero");
  expect([result.stderr.length, result.stdout.length, result.truncated]).toEqual([MIB, MIB, false]);
  const turns = "for i in $(seq 20); do head -c 100000 /dev/zero; head -c 100000 /dev/zero >&2; done";
  const mixed = await vm.run(turns);
  expect([mixed.stderr.length, mixed.stdout.length]).toEqual([2_000_000, 2_000_000]);
});

it("echoes a large stdin without a deadlock", async () => {
  const result = await vm.exec(["cat"], { stdin: Buffer.alloc(4 * MIB, "x") });
  expect(result.stdout.length).toBe(4 * MIB);
});

it("ends a writer without end by its timeout", async () => {
  for (const options of [{}, { onOutput: () => {} }]) {
    const error = await rejection(vm.exec(["cat", "/dev/zero"], { timeoutMs: 2_000, ...options }));
    expect(error).toMatchObject({ code: "COMMAND_TIMEOUT", result: { truncated: true } });
    expect((await vm.exec(["pgrep", "-x", "cat"])).output).toBe("");
  }
});

it("ends a command whose consumer fails, and passes its error on", async () => {
  const onOutput = () => Promise.reject(new RangeError("no more"));
  expect(await rejection(vm.exec(["cat", "/dev/zero"], { onOutput }))).toBeInstanceOf(RangeError);
  await eventually(async () => ((await vm.exec(["pgrep", "-x", "cat"])).output === "" ? true : undefined));
});
