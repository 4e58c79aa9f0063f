// Processes in a guest as a program handles them: streams, signals, terminals, and those that outlive their creator.

import { setTimeout as pause } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Program } from "../support/program.js";
import { type GuestProcess, SmolVM, type Vm } from "../support/smolvm.js";
import { testState } from "../support/state.js";
import { eventually, rejection } from "../support/wait.js";

const state = testState();
const MIB_BYTES = 1024 * 1024;
let vm: Vm;

beforeAll(async () => {
  vm = await SmolVM.create(state.config());
});

afterAll(() => vm?.delete());

/** All output of a process as one text. */
async function textOf(process: GuestProcess): Promise<string> {
  const parts: Uint8Array[] = [];
  for await (const { data } of process) parts.push(data);
  return Buffer.concat(parts).toString();
}

/** Whether a command line runs in the guest. */
async function runs(what: string): Promise<boolean> {
  return (await vm.exec(["pgrep", "-f", what])).ok;
}

describe("a process", () => {
  it("gives both outputs as they come, byte for byte, and then its result", async () => {
    const process = vm.spawn("printf 'a\\000\\377'; sleep 0.2; printf err >&2; sleep 0.2; printf b; exit 3");
    const pieces: [string, string, number][] = [];
    for await (const { stream, data, offset } of process) {
      pieces.push([stream, Buffer.from(data).toString("latin1"), offset]);
    }
    expect(pieces).toEqual([
      ["stdout", "a\0\xff", 0],
      ["stderr", "err", 3],
      ["stdout", "b", 6],
    ]);
    expect(await process).toMatchObject({ exitCode: 3, signal: null, stderr: "err", ok: false });
    expect(process.pid).toBeGreaterThan(1);
    expect(process.id).toBeUndefined();
  });

  it("takes stdin as a stream and sees its end", async () => {
    const process = vm.spawn(["sha256sum"]);
    const piece = Buffer.alloc(MIB_BYTES, "smolvm");
    for (let count = 0; count < 8; count++) {
      if (!process.stdin.write(piece)) await new Promise((resolve) => process.stdin.once("drain", resolve));
    }
    process.stdin.end();
    const { createHash } = await import("node:crypto");
    const hash = createHash("sha256");
    for (let count = 0; count < 8; count++) hash.update(piece);
    expect((await process).output).toBe(`${hash.digest("hex")}  -`);
    expect((await vm.spawn("read x; echo got:$x", { stdin: null })).output).toBe("got:");
    expect((await vm.spawn(["cat"], { stdin: "given" })).stdout).toBe("given");
  });

  it("is held back in the guest by a reader that stops", async () => {
    // Counts what it could write; one that is not held back would write all of it at once.
    const script =
      "import sys\nfor n in range(64):\n  sys.stdout.write('x' * 2**20); sys.stdout.flush(); open('/tmp/written', 'w').write(str(n + 1))";
    const process = vm.spawn(["python3", "-c", script]);
    const reader = process[Symbol.asyncIterator]();
    let bytes = (await reader.next()).value?.data.length ?? 0;
    await pause(1_500);
    const written = Number((await vm.run("cat /tmp/written 2>/dev/null || echo 0")).output);
    expect(written).toBeLessThan(8);
    for (let piece = await reader.next(); piece.done !== true; piece = await reader.next())
      bytes += piece.value.data.length;
    expect(bytes).toBe(64 * MIB_BYTES);
    expect((await process).exitCode).toBe(0);
  });

  it.each(["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGKILL"] as const)(
    "dies of %s, and it is told which",
    async (signal) => {
      const process = vm.spawn(["sleep", "1000"]);
      await process.started;
      process.kill(signal);
      const result = await process;
      const { constants } = await import("node:os");
      expect(result).toMatchObject({ signal, exitCode: 128 + constants.signals[signal], ok: false, timedOut: false });
    },
  );

  it("gets a signal by its name, and may take it", async () => {
    const process = vm.spawn("trap 'echo caught; exit 4' TERM; echo ready; while :; do sleep 0.05; done");
    for await (const { data } of process) {
      if (Buffer.from(data).includes("ready")) process.kill();
    }
    expect(await process).toMatchObject({ exitCode: 4, stdout: "ready\ncaught\n" });
  });

  it.each([
    ["a timeout", { timeoutMs: 700 }, true],
    ["an abort", { signal: AbortSignal.timeout(0) }, false],
  ])("is killed by %s with its whole group, and gives what it said so far", async (_how, bounds, timedOut) => {
    const controller = new AbortController();
    const options = timedOut ? bounds : { signal: controller.signal };
    const marker = `3${Math.floor(Math.random() * 1e6)}1`;
    const process = vm.spawn(`echo so far; setsid sleep ${marker} & sleep ${marker}`, options);
    await process.started;
    if (!timedOut) {
      await eventually(async () => ((await runs(`sleep ${marker}`)) ? true : undefined));
      controller.abort();
    }
    expect(await process).toMatchObject({ stdout: "so far\n", signal: "SIGKILL", exitCode: 137, timedOut, ok: false });
    expect(await runs(`sleep ${marker}`)).toBe(false);
  });

  it("with check rejects on a timeout, an abort and a non-zero exit", async () => {
    expect(await rejection(Promise.resolve(vm.spawn("exit 9", { check: true })))).toMatchObject({
      code: "COMMAND_FAILED",
    });
    const slow = vm.spawn("echo so far; sleep 1000", { check: true, timeoutMs: 500 });
    expect(await rejection(Promise.resolve(slow))).toMatchObject({
      code: "COMMAND_TIMEOUT",
      result: { stdout: "so far\n" },
    });
    const aborted = vm.spawn("sleep 1000", { check: true, signal: AbortSignal.abort() });
    expect(await rejection(Promise.resolve(aborted))).toMatchObject({ code: "ABORTED" });
  });

  it("is killed when its iteration is left, and at the end of its scope", async () => {
    for await (const _ of vm.spawn("echo ready; sleep 41414141")) break;
    await eventually(async () => ((await runs("sleep 41414141")) ? undefined : true));
    {
      await using process = vm.spawn(["sleep", "42424242"]);
      await process.started;
    }
    expect(await runs("sleep 42424242")).toBe(false);
  });

  it("runs in its directory, with its variables, as its user", async () => {
    const result = await vm.spawn(["sh", "-c", 'pwd; id -un; echo "$A"'], {
      cwd: "/tmp",
      user: "nobody",
      env: { A: "1\n2" },
    });
    expect(result.stdout).toBe("/tmp\nnobody\n1\n2\n");
  });

  it("that cannot be started says why", async () => {
    const missing = vm.spawn(["/no/such/program"]);
    expect(await rejection(missing.started)).toMatchObject({ code: "COMMAND_FAILED", details: { errno: "ENOENT" } });
    expect(await rejection(textOf(missing))).toMatchObject({ code: "COMMAND_FAILED" });
    const stranger = vm.spawn(["true"], { user: "nosuchuser" });
    expect(await rejection(Promise.resolve(stranger))).toMatchObject({ details: { errno: "EUSER" } });
    const long = vm.spawn(["echo", ...Array.from({ length: 9 }, () => "x".repeat(120_000)), "y".repeat(200_000)]);
    expect(await rejection(Promise.resolve(long))).toMatchObject({
      code: "COMMAND_FAILED",
      details: { errno: "E2BIG" },
    });
  });

  it("is one of fifty at once, each with its own streams", async () => {
    const processes = Array.from({ length: 50 }, (_, index) => {
      const process = vm.spawn(["cat"]);
      process.stdin.end(`for ${index}`);
      return process;
    });
    const results = await Promise.all(processes);
    expect(results.map(({ stdout }) => stdout)).toEqual(results.map((_, index) => `for ${index}`));
  });
});

describe("a process on a terminal", () => {
  it("has one of the size asked for, hears of another size, and of Ctrl-C and Ctrl-D", async () => {
    const process = vm.spawn(["bash", "--norc", "-i"], { pty: { cols: 100, rows: 30 }, env: { PS1: "$ " } });
    let screen = "";
    const shows = async (text: string) => {
      for (;;) {
        const at = screen.indexOf(text);
        if (at >= 0) break;
        const piece = await reader.next();
        if (piece.done === true) throw new RangeError(`ended before it showed ${text}: ${screen}`);
        expect(piece.value.stream).toBe("stdout");
        screen += Buffer.from(piece.value.data).toString();
      }
      screen = screen.slice(screen.indexOf(text) + text.length);
    };
    const reader = process[Symbol.asyncIterator]();
    await shows("$ ");
    process.stdin.write("tty; stty size; echo $TERM\n");
    await shows("/dev/pts/");
    await shows("30 100\r\nxterm-256color\r\n");
    process.resize({ cols: 132, rows: 43 });
    process.stdin.write("stty size\n");
    await shows("43 132\r\n");
    process.stdin.write("sleep 1000\n");
    await shows("sleep 1000\r\n");
    // The shell has made it the terminal's foreground before it is a program of this name.
    await eventually(async () => ((await vm.exec(["pgrep", "-fx", "sleep 1000"])).ok ? true : undefined));
    process.stdin.write("\x03");
    process.stdin.write("echo code:$?\n");
    await shows("code:130\r\n");
    process.stdin.end(); // Ctrl-D
    for (let piece = await reader.next(); piece.done !== true; piece = await reader.next());
    expect(await process).toMatchObject({ exitCode: 0, stderr: "" });
  });

  it("belongs to another user, too, and a background child that keeps it does not hold the result up", async () => {
    const result = await vm.spawn(["sh", "-c", "test -w $(tty) && id -un; setsid sleep 43434343 & exit 2"], {
      pty: { cols: 80, rows: 24 },
      user: "nobody",
    });
    expect(result).toMatchObject({ exitCode: 2, output: "nobody" });
  });

  it("is a login shell on its own, with and without a terminal", async () => {
    const typed = vm.shell();
    typed.stdin.write("echo $0; shopt -q login_shell && echo login; exit 5\n");
    expect(await typed).toMatchObject({ exitCode: 5, stdout: expect.stringMatching(/\r\nlogin\r\n/) });
    expect(await vm.shell({ pty: null, stdin: "echo $((6 * 7)); exit 6\n" })).toMatchObject({
      exitCode: 6,
      output: "42",
    });
  });
});

describe("a detached process", () => {
  const named = async (id: string) => (await vm.processes.list()).find((process) => process.id === id);

  it("outlives the program that started it; any other lists it, reads it, writes to it and kills it", async () => {
    const creator = await Program.start();
    const id = await creator.call(
      "spawnDetached",
      vm.vmId,
      "echo begin; while read line; do echo got:$line; done; echo eof",
    );
    await creator.kill();
    await pause(300);
    expect(await named(id)).toMatchObject({ id, status: "running", exitCode: null, user: "root", takesStdin: true });

    const process = vm.processes.attach(id);
    process.stdin.write("one\n");
    let text = "";
    let seen = 0;
    for await (const { data, offset } of process) {
      text += Buffer.from(data).toString();
      seen = offset + data.length;
      if (text.includes("got:one\n")) break;
    }
    expect(text).toBe("begin\ngot:one\n");

    // Somebody else reads on from there.
    await using other = await Program.start();
    expect((await other.call("exec", vm.vmId, ["true"])).ok).toBe(true);
    const again = vm.processes.attach(id, { offset: seen });
    again.stdin.end("two\n");
    expect(await again).toMatchObject({ exitCode: 0, stdout: "got:two\neof\n", truncated: false });
    expect(await named(id)).toMatchObject({ status: "exited", exitCode: 0, output: { start: 0, end: seen + 12 } });
    // What has ended can still be read.
    expect((await vm.processes.attach(id)).stdout).toBe("begin\ngot:one\ngot:two\neof\n");
  });

  it("keeps the last of its output, and says what is lost", async () => {
    const process = vm.spawn("head -c 1000000 /dev/zero; echo last", { detached: true, stdin: null });
    await process.started;
    process.detach();
    const id = process.id ?? "";
    const info = await eventually(async () => {
      const now = await named(id);
      return now?.status === "exited" ? now : undefined;
    });
    expect(info.output.end).toBe(1_000_005);
    const kept = info.output.end - info.output.start;
    expect(kept).toBeGreaterThan(200_000);
    expect(kept).toBeLessThanOrEqual(256 * 1024);
    const view = vm.processes.attach(id, { offset: 10 });
    const first = (await view[Symbol.asyncIterator]().next()).value;
    expect(first?.offset).toBe(info.output.start);
    const result = await vm.processes.attach(id);
    expect(result.stdout.length).toBe(kept);
    expect(result.stdout.endsWith("last\n")).toBe(true);
  });

  it("is killed with all that it started, and reports the signal", async () => {
    const process = vm.spawn("setsid sleep 45454545 & sleep 45454545", { detached: true });
    await process.started;
    const view = vm.processes.attach(process.id ?? "");
    await view.started;
    view.kill("SIGKILL");
    expect(await view).toMatchObject({ signal: "SIGKILL", exitCode: 137 });
    expect(await process).toMatchObject({ signal: "SIGKILL" });
    expect(await runs("sleep 45454545")).toBe(false);
  });

  it("may have a terminal", async () => {
    const process = vm.spawn("stty size; read x; echo got:$x", { detached: true, pty: { cols: 90, rows: 20 } });
    await process.started;
    process.detach();
    const view = vm.processes.attach(process.id ?? "");
    view.resize({ cols: 91, rows: 21 });
    view.stdin.write("hi\n");
    expect((await view).stdout).toMatch(/got:hi\r\n$/);
    expect(await named(process.id ?? "")).toMatchObject({ hasPty: true });
  });

  it("that is not there cannot be attached to", async () => {
    const error = await rejection(Promise.resolve(vm.processes.attach("00000000")));
    expect(error).toMatchObject({ code: "PROCESS_NOT_FOUND" });
    expect(() => vm.processes.attach("../x")).toThrow(expect.objectContaining({ code: "INVALID_CONFIG" }));
  });
});

it("in a VM that does not run names the call that helps", async () => {
  const own = await SmolVM.create(state.config());
  try {
    const process = own.spawn(["sleep", "1000"], { detached: true });
    await process.started;
    await own.pause();
    const paused = { code: "INVALID_STATE", details: { status: "paused", helps: "resume()" } };
    expect(await rejection(Promise.resolve(own.spawn("true")))).toMatchObject(paused);
    expect(await rejection(own.processes.list())).toMatchObject(paused);
    expect(await rejection(own.env.set({ A: "1" }))).toMatchObject(paused);
    await own.resume();
    expect(await own.processes.list()).toMatchObject([{ id: process.id, status: "running" }]);
    await own.stop();
    const stopped = { code: "INVALID_STATE", details: { status: "stopped", helps: "start()" } };
    expect(await rejection(Promise.resolve(own.spawn("true")))).toMatchObject(stopped);
    expect(await rejection(Promise.resolve(own.processes.attach(process.id ?? "")))).toMatchObject(stopped);
  } finally {
    await own.delete();
  }
  expect(() => new SmolVM().spawn("true")).toThrow(expect.objectContaining({ code: "INVALID_STATE" }));
});
