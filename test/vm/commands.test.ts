// Commands in one VM: what goes in, what comes out, how they end.

import { createHash, randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type CommandError, SmolVM, type Vm } from "../support/smolvm.js";
import { testState } from "../support/state.js";
import { eventually, rejection } from "../support/wait.js";

const state = testState();
let vm: Vm;

beforeAll(async () => {
  vm = await SmolVM.create(state.config({ envVars: { FROM_VM: "vm" } }));
});

afterAll(() => vm?.delete());

/** Command lines of the guest's processes that match; not the search itself. */
async function running(pattern: string): Promise<string[]> {
  const { stdout } = await vm.exec(["ps", "-eo", "args"]);
  return stdout.split("\n").filter((line) => new RegExp(pattern).test(line));
}

describe("run and exec", () => {
  it("runs a program without a shell", async () => {
    const result = await vm.exec(["printf", "%s|", "a b", "$HOME", "", "*", "a;b\n"]);
    expect(result).toMatchObject({ stdout: "a b|$HOME||*|a;b\n|", exitCode: 0, signal: null, ok: true, stderr: "" });
    expect([result.timedOut, result.truncated]).toEqual([false, false]);
  });

  it("runs a line of the login shell, and a non-zero exit is a result", async () => {
    const result = await vm.run('echo "$((40 + 2))" | cat; echo oops >&2; shopt -q login_shell && exit 3');
    expect(result).toMatchObject({ output: "42", stdout: "42\n", stderr: "oops\n", exitCode: 3, ok: false });
  });

  it("takes a directory, an environment and a user", async () => {
    const env = { ONE: "1", TEXT: "a\nb" };
    const { stdout } = await vm.run('pwd; echo "$ONE $FROM_VM"; printf "%s" "$TEXT"', { cwd: "/etc", env });
    expect(stdout).toBe("/etc\n1 vm\na\nb");
    expect((await vm.exec(["id", "-un"], { user: "daemon" })).output).toBe("daemon");
    expect((await vm.exec(["id", "-u"], { user: "65534" })).output).toBe("65534");
    expect((await vm.exec(["sh", "-c", 'echo "$HOME $USER"; pwd'])).stdout).toBe("/root root\n/root\n");
    expect((await vm.exec(["cat", "/etc/shadow"], { user: "nobody" })).exitCode).toBe(1);
  });

  it("feeds stdin from text, bytes and a stream, and has it empty otherwise", async () => {
    const bytes = randomBytes(1_000_000);
    const sum = createHash("sha256").update(bytes).digest("hex");
    async function* parts() {
      for (let at = 0; at < bytes.length; at += 333_333) yield bytes.subarray(at, at + 333_333);
    }
    expect((await vm.exec(["cat"], { stdin: "häßlich\n" })).stdout).toBe("häßlich\n");
    expect((await vm.exec(["sha256sum"], { stdin: bytes })).output).toBe(`${sum}  -`);
    expect((await vm.exec(["sha256sum"], { stdin: parts() })).output).toBe(`${sum}  -`);
    expect((await vm.exec(["wc", "-c"])).output).toBe("0");
    expect((await vm.exec(["head", "-c", "3"], { stdin: bytes })).exitCode).toBe(0);
  });

  it("ends a command whose stdin stream fails", async () => {
    async function* broken() {
      yield "first\n";
      throw new Error("the source broke");
    }
    expect(await rejection(vm.exec(["cat"], { stdin: broken() }))).toMatchObject({ code: "COMMAND_FAILED" });
  });

  it("brings bytes back as they are", async () => {
    const bytes = randomBytes(300_000);
    const pieces: Buffer[] = [];
    await vm.exec(["cat"], { stdin: bytes, onOutput: (_stream, data) => void pieces.push(Buffer.from(data)) });
    expect(Buffer.concat(pieces).equals(bytes)).toBe(true);
    expect((await vm.run("printf '\\377\\303\\244'")).stdout).toBe("\ufffdä");
  });

  it("throws with check", async () => {
    const error = await rejection(vm.run("echo out; echo reason >&2; exit 9", { check: true }));
    expect(error).toMatchObject({
      code: "COMMAND_FAILED",
      result: { exitCode: 9, stdout: "out\n", stderr: "reason\n" },
    });
    expect(error.message).toContain("reason");
    expect((await vm.run("true", { check: true })).ok).toBe(true);
  });

  it("reports the signal that ended a command", async () => {
    expect(await vm.exec(["sh", "-c", "kill -KILL $$"])).toMatchObject({ signal: "SIGKILL", exitCode: 137, ok: false });
    expect(await vm.exec(["sh", "-c", "kill -TERM $$"])).toMatchObject({ signal: "SIGTERM", exitCode: 143, ok: false });
  });

  it("runs fifty commands at once", async () => {
    const numbers = Array.from({ length: 50 }, (_, n) => String(n));
    const results = await Promise.all(numbers.map((n) => vm.exec(["sh", "-c", `sleep 0.2; echo ${n}; exit ${n}`])));
    expect(results.map(({ output }) => output)).toEqual(numbers);
    expect(results.map(({ exitCode }) => String(exitCode))).toEqual(numbers);
  });
});

describe("the end of a command", () => {
  const family =
    "sleep 7100 & (sleep 7101; true) & setsid sleep 7102 & nohup setsid sh -c 'sleep 7103; true' & echo before; sleep 7104";

  it("comes with its timeout, for every process it started, with the output so far", async () => {
    const error = await rejection(vm.run(family, { timeoutMs: 4_000 }));
    expect(error).toMatchObject({ code: "COMMAND_TIMEOUT", result: { timedOut: true, ok: false, stdout: "before\n" } });
    expect((error as CommandError).result.stdout).toBe("before\n");
    expect(await running("sleep 710[0-4]")).toEqual([]);
  });

  it("comes with an abort, likewise", async () => {
    const controller = new AbortController();
    const onOutput = () => controller.abort(new Error("enough"));
    const error = await rejection(vm.run(family, { signal: controller.signal, onOutput }));
    expect(error).toMatchObject({
      code: "ABORTED",
      cause: { message: "enough" },
      result: { stdout: "before\n", timedOut: false },
    });
    expect(await running("sleep 710[0-4]")).toEqual([]);
    const early = AbortSignal.abort();
    expect(await rejection(vm.exec(["touch", "/root/never"], { signal: early }))).toMatchObject({ code: "ABORTED" });
    expect((await vm.exec(["ls", "/root/never"])).exitCode).toBe(2);
  });

  it("comes when the command itself ends, not when what it left behind does, and that dies", async () => {
    // All of them keep the command's outputs open.
    const result = await vm.run("sleep 7200 & (sleep 7201 &) ; setsid sleep 7202 & disown; echo done");
    expect(result).toMatchObject({ stdout: "done\n", exitCode: 0 });
    await eventually(async () => ((await running("sleep 720[0-2]")).length === 0 ? true : undefined));
  });

  it('leaves alone what it left behind with orphans: "keep"', async () => {
    const { output } = await vm.run("sleep 7300 & echo $!", { orphans: "keep" });
    expect(await running("sleep 7300")).toHaveLength(1);
    expect((await vm.exec(["kill", "-0", output])).ok).toBe(true);
    await vm.exec(["kill", output]);
    expect(await running("sleep 7300")).toEqual([]);
  });
});

describe("a command that cannot be started", () => {
  it.each([
    ["ENOENT", ["/no/such/program"], {}],
    ["ENOENT", ["no-such-program"], {}],
    ["EACCES", ["/etc/passwd"], {}],
    ["E2BIG", ["echo", "x".repeat(1024 * 1024)], {}],
    ["EUSER", ["true"], { user: "no-such-user" }],
  ])("fails with %s", async (errno, argv, options) => {
    const error = await rejection(vm.exec(argv, options));
    expect(error).toMatchObject({ code: "COMMAND_FAILED", details: { errno } });
  });

  it("says which directory is none", async () => {
    const missing = await rejection(vm.exec(["true"], { cwd: "/no/such/directory" }));
    expect(missing).toMatchObject({ code: "COMMAND_FAILED" });
    expect(["ENOENT", "ENOTDIR"]).toContain((missing.details as { errno: string }).errno);
    const file = await rejection(vm.exec(["true"], { cwd: "/etc/passwd" }));
    expect(file).toMatchObject({ code: "COMMAND_FAILED", details: { errno: "ENOTDIR" } });
  });

  it.each([
    ["argv", () => vm.exec([])],
    ["argv", () => vm.exec(["echo", "a\0b"])],
    ["command", () => vm.run("  ")],
    ["command", () => vm.run("echo a\0b")],
    ["timeoutMs", () => vm.exec(["true"], { timeoutMs: 0 })],
    ["timeoutMs", () => vm.exec(["true"], { timeoutMs: Number.NaN })],
    ["cwd", () => vm.exec(["true"], { cwd: "relative" })],
    ["env.A", () => vm.exec(["true"], { env: { A: "a\0b" } })],
    ["maxOutputBytes", () => vm.exec(["true"], { maxOutputBytes: 0 })],
    ["shell", () => vm.exec(["true"], { shell: true } as object)],
  ])("is refused for its %s before the guest hears of it", async (field, call) => {
    expect(await rejection(call())).toMatchObject({ code: "INVALID_CONFIG", details: { field } });
  });
});
