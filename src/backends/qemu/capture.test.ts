import { chmod, readdir, rm, stat, writeFile } from "node:fs/promises";
import type { Socket } from "node:net";
import { join } from "node:path";
import { describe, expect, test, vi } from "vitest";
import { Deadline } from "../../base/deadline.js";
import type { CaptureSource, CaptureTarget } from "../backend.js";
import { captureMachine } from "./capture.js";
import { fakeMonitor, type HeardCommand } from "./testing/fake-monitor.js";

const ample = () => Deadline.after(5_000);
/** What a copier does that does what it should; `sh`, with nothing but what is built into it. */
const GOOD_COPIER = "echo ready; read go; echo copied 4096";
/** An answer that takes longer than the deadlines here that are meant to pass; what comes later waits for it. */
const LATE = Symbol("late");
const LATE_MS = 500;

interface Scene {
  readonly running?: boolean;
  readonly copier?: string;
  /** Answers instead of the usual ones. */
  readonly answers?: Readonly<Record<string, unknown>>;
  readonly jobError?: string;
  readonly onCommand?: (execute: string, socket: Socket) => void;
}

/** A machine with a monitor and a copier as told. */
async function scene({ running = true, copier = GOOD_COPIER, answers = {}, jobError, onCommand }: Scene) {
  const usual: Record<string, unknown> = {
    "query-status": { running, status: running ? "running" : "paused" },
    "human-monitor-command": "Host virtual address for 0x0 (microvm.ram) is 0x7f0000000000\r\n",
    "query-block-jobs": [],
    "query-named-block-nodes": [{ "node-name": "root" }, null],
  };
  let before: Promise<void> = Promise.resolve();
  const monitor = await fakeMonitor((command, say, socket) => {
    onCommand?.(command.execute, socket);
    if (answers[command.execute] === LATE) {
      before = before.then(() => new Promise((resolve) => setTimeout(resolve, LATE_MS)));
    }
    before = before.then(() => respond(command, say));
  });
  const respond = ({ execute, arguments: args }: HeardCommand, say: (message: unknown) => void) => {
    const given = execute in answers ? answers[execute] : (usual[execute] ?? {});
    const answer: unknown = typeof given === "function" ? given() : given;
    if (answer instanceof Error) {
      say({ error: { class: "GenericError", desc: answer.message } });
      return;
    }
    say({ return: answer === LATE ? {} : answer });
    if (execute === "blockdev-backup") finishJob(String(args?.["job-id"]), say);
    if (execute === "block-job-cancel") say(ended(String(args?.["device"])));
  };
  const finishJob = (job: string, say: (message: unknown) => void) => {
    const error = jobError === undefined ? {} : { error: jobError };
    say({ event: "BLOCK_JOB_COMPLETED", data: { device: job, ...error } });
    say(ended(job));
  };
  const { directory } = monitor;
  const copierPath = join(directory, "copier");
  await writeFile(copierPath, `#!/bin/sh\n${copier}\n`);
  await chmod(copierPath, 0o755);
  const path = join(directory, "disk");
  await writeFile(path, "");
  const source: CaptureSource = {
    pid: process.pid,
    runtimeDir: directory,
    memSizeMib: 64,
    memoryBasePath: undefined,
    copierPath,
    disk: { mode: "isolated", path, layers: [], basePath: "/base", baseFormat: "raw", sizeBytes: 2 ** 20 },
  };
  const target: CaptureTarget = {
    memoryPath: join(directory, "out.memory"),
    devicesPath: join(directory, "out.devices"),
    layerPath: join(directory, "out.layer"),
  };
  const outputs = async () => (await readdir(directory)).filter((name) => name.startsWith("out.")).sort();
  const said = () => monitor.heard.map(({ execute }) => execute);
  return { ...monitor, source, target, outputs, said };
}

const ended = (job: string) => ({ event: "JOB_STATUS_CHANGE", data: { id: job, status: "null" } });

function withoutNames(heard: readonly HeardCommand[]): string {
  return JSON.stringify(heard).replaceAll(/copy-[0-9a-f]+/g, "NAME");
}

test("stops the machine only in the middle, memory before devices", async () => {
  const { source, target, outputs, said, heard, isAlone } = await scene({});
  const { pauseMs } = await captureMachine(source, target, ample());
  expect(pauseMs).toBeGreaterThan(0);
  expect(await outputs()).toEqual(["out.devices", "out.layer", "out.memory"]);
  for (const path of Object.values(target)) expect((await stat(path)).mode & 0o777).toBe(0o600);
  const order = said();
  expect(order.slice(order.indexOf("blockdev-add"))).toEqual([
    ...["blockdev-add", "query-status", "stop", "blockdev-backup", "xen-save-devices-state", "cont", "blockdev-del"],
  ]);
  const text = withoutNames(heard);
  expect(text).toContain('{"job-id":"NAME","device":"root","target":"NAME","sync":"top"}');
  expect(text).toContain(JSON.stringify({ filename: target.devicesPath, live: false }));
  expect(heard.find(({ execute }) => execute === "blockdev-add")?.arguments).toMatchObject({ backing: "below" });
  await vi.waitFor(() => expect(isAlone()).toBe(true));
});

test("a machine that was paused stays so", async () => {
  const { source, target, said } = await scene({ running: false });
  await captureMachine(source, target, ample());
  expect(said()).not.toContain("cont");
});

test("what a killed program left of a copy is removed first", async () => {
  const { source, target, heard } = await scene({
    answers: {
      "query-block-jobs": [{ device: "copy-old" }, { device: "somebody-elses" }],
      "query-named-block-nodes": [{ "node-name": "copy-old" }, { "node-name": "root" }],
    },
  });
  await captureMachine(source, target, ample());
  const names = (execute: string) => heard.filter((c) => c.execute === execute).map((c) => c.arguments);
  expect(names("block-job-cancel")).toEqual([{ device: "copy-old", force: true }]);
  expect(names("blockdev-del")[0]).toEqual({ "node-name": "copy-old" });
});

describe("leaves no file, and the machine as it was, when", () => {
  const refusal = new Error("not today");
  const refuse = (execute: string): Scene => ({ answers: { [execute]: refusal } });
  const cases: readonly [string, Scene, object][] = [
    ["QEMU does not find the memory", { answers: { "human-monitor-command": "no" } }, { code: "INTERNAL" }],
    ["QEMU refuses the target", refuse("blockdev-add"), { code: "INTERNAL" }],
    ["QEMU refuses to stop", refuse("stop"), { code: "INTERNAL" }],
    ["QEMU refuses the job", refuse("blockdev-backup"), { code: "INTERNAL" }],
    ["QEMU cannot save devices", refuse("xen-save-devices-state"), { code: "STORAGE_FAILED" }],
    ["the job fails", { jobError: "No space left on device" }, { code: "STORAGE_FAILED" }],
    ["reading is forbidden", { copier: "echo no >&2; exit 3" }, { code: "HOST_UNSUPPORTED", hint: /ptrace_scope/ }],
    ["it is forbidden late", { copier: "echo ready; read go; exit 3" }, { code: "HOST_UNSUPPORTED" }],
    [
      "the file is full",
      { copier: `${GOOD_COPIER}; echo full >&2; exit 4` },
      { code: "STORAGE_FAILED", message: /full/ },
    ],
    ["the VMM is another", { copier: "exit 5" }, { code: "HOST_COMMAND_FAILED" }],
    ["the copier crashes", { copier: "kill -9 $$" }, { code: "HOST_COMMAND_FAILED", details: { signal: "SIGKILL" } }],
  ];
  test.each(cases)("%s", async (_when, what, error) => {
    const { source, target, outputs, said, isAlone } = await scene(what);
    await expect(captureMachine(source, target, ample())).rejects.toSatisfy((failure: Record<string, unknown>) => {
      for (const [key, value] of Object.entries(error)) {
        if (value instanceof RegExp) expect(failure[key]).toMatch(value);
        else if (typeof value === "object") expect(failure[key]).toMatchObject(value);
        else expect(failure[key]).toBe(value);
      }
      return true;
    });
    expect(await outputs()).toEqual([]);
    expect(said().filter((command) => command === "cont")).toHaveLength(said().includes("stop") ? 1 : 0);
    expect(said()).toContain(said().includes("blockdev-add") ? "blockdev-del" : "human-monitor-command");
    await vi.waitFor(() => expect(isAlone()).toBe(true));
  });

  test("the caller has enough, or time is over, while it stands still", async () => {
    const abort = new AbortController();
    const copier = "echo ready; read go; while read more; do :; done";
    const one = await scene({ copier, onCommand: (execute) => execute === "blockdev-backup" && abort.abort() });
    await expect(captureMachine(one.source, one.target, Deadline.after(5_000, abort.signal))).rejects.toMatchObject({
      code: "ABORTED",
    });
    const two = await scene({ copier });
    await expect(captureMachine(two.source, two.target, Deadline.after(300))).rejects.toMatchObject({
      code: "TIMEOUT",
    });
    for (const { outputs, said } of [one, two]) {
      expect(await outputs()).toEqual([]);
      expect(said()).toEqual(expect.arrayContaining(["stop", "cont", "block-job-cancel", "blockdev-del"]));
    }
  });

  test("the monitor hangs up while it stands still: another conversation lets it go on", async () => {
    const { source, target, outputs, said } = await scene({
      onCommand: (execute, socket) => execute === "xen-save-devices-state" && socket.destroy(),
    });
    await expect(captureMachine(source, target, ample())).rejects.toMatchObject({ code: "CHANNEL_CLOSED" });
    expect(said()).toContain("cont");
    expect(await outputs()).toEqual([]);
  });

  test("the stop is not answered: nobody knows whether it stands still, so it goes on", async () => {
    const running = await scene({ answers: { stop: LATE } });
    await expect(captureMachine(running.source, running.target, Deadline.after(300))).rejects.toMatchObject({
      code: "TIMEOUT",
    });
    expect(running.said()).toContain("cont");
    const paused = await scene({ running: false, answers: { stop: LATE } });
    await expect(captureMachine(paused.source, paused.target, Deadline.after(300))).rejects.toMatchObject({
      code: "TIMEOUT",
    });
    expect(paused.said()).not.toContain("cont");
  });
});

test.each(["memoryPath", "devicesPath", "layerPath"] as const)(
  "a file that exists already (%s) is not touched",
  async (name) => {
    const { source, target, outputs, said } = await scene({});
    await writeFile(target[name], "mine");
    await expect(captureMachine(source, target, ample())).rejects.toMatchObject({ code: "STORAGE_FAILED" });
    expect(await outputs()).toHaveLength(1);
    expect((await stat(target[name])).size).toBe(4);
    expect(said()).toEqual([]);
  },
);

test("a VMM that is gone", async () => {
  const { source, target, outputs, path } = await scene({});
  // Larger than any pid can be (PID_MAX_LIMIT).
  await expect(captureMachine({ ...source, pid: 2 ** 22 + 1 }, target, ample())).rejects.toMatchObject({
    code: "CHANNEL_CLOSED",
  });
  await rm(path);
  await expect(captureMachine(source, target, ample())).rejects.toMatchObject({ code: "CHANNEL_CLOSED" });
  expect(await outputs()).toEqual([]);
});

test("one that was aborted before it began does nothing", async () => {
  const { source, target, said } = await scene({});
  const deadline = Deadline.after(5_000, AbortSignal.abort());
  await expect(captureMachine(source, target, deadline)).rejects.toMatchObject({ code: "ABORTED" });
  expect(said()).toEqual([]);
});

test("a machine that still comes out of its image is waited for", async () => {
  let looks = 0;
  const answers = {
    "query-status": () => {
      looks += 1;
      return looks < 3 ? { running: false, status: "inmigrate" } : { running: true, status: "running" };
    },
  };
  const { source, target, said } = await scene({ answers });
  await captureMachine(source, target, ample());
  expect(said().filter((command) => command === "query-status")).toHaveLength(3);
  expect(said()).toContain("cont");
});
