import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { endProcessGroup, hasEnded } from "./end-process.js";
import { findProcesses } from "./find-processes.js";
import { runProgram, signalGroup, spawnProgram } from "./process.js";
import { identifyProcess, isAlive, type ProcessIdentity, selfIdentity, signalProcess } from "./process-identity.js";

const NODE = process.execPath;
const node = (script: string, ...args: string[]) => [NODE, "-e", script, ...args];

function scratch(): string {
  const directory = mkdtempSync(join(tmpdir(), "smolvm-process-"));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** The pid that a program wrote to a file. */
async function pidIn(path: string): Promise<number> {
  const text = await vi.waitFor(() => {
    const content = readFileSync(path, "utf8");
    expect(content).toMatch(/^\d+\n$/);
    return content;
  }, 5_000);
  return Number(text);
}

async function identityOf(pid: number): Promise<ProcessIdentity> {
  const identity = await identifyProcess(pid);
  expect(identity).toBeDefined();
  return identity!;
}

/** A process that sleeps, killed at the end of the test. */
async function sleeper(options: { readonly cwd?: string } = {}): Promise<ProcessIdentity> {
  const child = await spawnProgram(["sleep", "60"], { stdio: "ignore", detached: true, ...options });
  onTestFinished(() => void child.kill("SIGKILL"));
  return identityOf(child.pid!);
}

describe("running a program", () => {
  test("gives both outputs and takes stdin", async () => {
    const script = "process.stdin.on('data', d => process.stdout.write(d)); process.stderr.write('err')";
    const result = await runProgram(node(script), { stdin: "grüße" });
    expect(result).toEqual({ exitCode: 0, stdout: "grüße", stderr: "err" });
  });

  test("that does not read its stdin", async () => {
    const { exitCode } = await runProgram(["true"], { stdin: Buffer.alloc(4 * 1024 * 1024) });
    expect(exitCode).toBe(0);
  });

  test("without stdin it reads an end", async () => {
    expect((await runProgram(["cat"])).stdout).toBe("");
  });

  test("no shell touches the arguments", async () => {
    const args = ["$HOME", "a b", "*", "'\"", "; false", ""];
    const { stdout } = await runProgram(node("console.log(JSON.stringify(process.argv.slice(1)))", ...args));
    expect(JSON.parse(stdout)).toEqual(args);
  });

  test("in a directory, with an environment and in the C locale", async () => {
    const cwd = scratch();
    const { stdout } = await runProgram(["pwd"], { cwd });
    expect(stdout.trim()).toBe(cwd);
    expect((await runProgram(["env"])).stdout).toMatch(/^LC_ALL=C\.UTF-8$/m);
    expect((await runProgram(["/usr/bin/env"], { env: { ONLY: "this" } })).stdout).toBe("ONLY=this\n");
  });

  test.each([["smolvm-no-such-program"], ["/nonexistent/program"], ["/etc/passwd"]])(
    "%s is not there",
    async (name) => {
      await expect(runProgram([name])).rejects.toMatchObject({ code: "HOST_UNSUPPORTED", details: { program: name } });
    },
  );

  test("arguments that no process can have are refused by code", async () => {
    await expect(runProgram(["true", "a\0b"])).rejects.toMatchObject({ code: "HOST_COMMAND_FAILED" });
    await expect(runProgram(["true", "x".repeat(3 * 1024 * 1024)])).rejects.toMatchObject({
      code: "HOST_COMMAND_FAILED",
      details: { reason: "E2BIG" },
    });
    await expect(runProgram([])).rejects.toMatchObject({ code: "INTERNAL" });
  });

  test("a failure carries argv, exit code and stderr", async () => {
    const argv = node("console.error('first'); console.error('the reason'); process.exitCode = 3");
    const failing = runProgram(argv);
    await expect(failing).rejects.toMatchObject({
      code: "HOST_COMMAND_FAILED",
      message: expect.stringContaining("exited with 3: the reason"),
      details: { argv, exitCode: 3, signal: null, stderr: "first\nthe reason\n" },
    });
    expect(await runProgram(argv, { okExitCodes: [0, 3] })).toMatchObject({ exitCode: 3 });
    await expect(runProgram(["true"], { okExitCodes: [1] })).rejects.toMatchObject({ code: "HOST_COMMAND_FAILED" });
  });

  test("a signal is a failure, whatever exit codes are fine", async () => {
    const argv = node("process.kill(process.pid, 'SIGKILL')");
    await expect(runProgram(argv, { okExitCodes: [0, 137, -1] })).rejects.toMatchObject({
      code: "HOST_COMMAND_FAILED",
      details: { exitCode: null, signal: "SIGKILL" },
    });
  });

  test("of stderr the last 4 KiB are kept", async () => {
    const script = "process.stderr.write('x'.repeat(100000) + 'the end', () => process.exit(1))";
    const error = await runProgram(node(script)).catch((caught) => caught);
    expect(error.details.stderr).toHaveLength(4096);
    expect(error.details.stderr).toMatch(/x{4089}the end$/);
  });

  test("of stdout the last 16 MiB are kept, and both outputs are drained", async () => {
    const script = `
      const block = Buffer.alloc(1024 * 1024, 'o');
      let left = 40;
      const next = () => left-- > 0 ? process.stdout.write(block, () => process.stderr.write(block, next)) : process.stdout.write('end');
      next();`;
    const { stdout, stderr } = await runProgram(node(script));
    expect(stdout).toHaveLength(16 * 1024 * 1024);
    expect(stdout.endsWith("oend")).toBe(true);
    expect(stderr).toHaveLength(4096);
  });

  test("lines are told as they come, the last one also without its end", async () => {
    const [out, err]: [string[], string[]] = [[], []];
    const script = "process.stdout.write('a\\nb\\r\\n'); process.stdout.write('c\\rd'); process.stderr.write('e\\n')";
    await runProgram(node(script), { onStdoutLine: (line) => out.push(line), onStderrLine: (line) => err.push(line) });
    expect([out, err]).toEqual([["a", "b", "c", "d"], ["e"]]);
  });
});

describe("a program that takes too long", () => {
  test("is ended, and a caller who has enough ends it too", async () => {
    await expect(runProgram(["sleep", "60"], { timeoutMs: 50 })).rejects.toMatchObject({
      code: "TIMEOUT",
      details: { timeoutMs: 50 },
    });
    const reason = new Error("enough");
    const abort = new AbortController();
    const running = runProgram(["sleep", "60"], { signal: abort.signal });
    setTimeout(() => abort.abort(reason), 30);
    await expect(running).rejects.toMatchObject({ code: "ABORTED", cause: reason });
    await expect(runProgram(["false"], { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: "ABORTED" });
  });

  test("may have no limit", async () => {
    expect(await runProgram(["sleep", "0.05"], { timeoutMs: Number.POSITIVE_INFINITY })).toMatchObject({ exitCode: 0 });
  });

  test.each([
    ["holds its outputs", ""],
    ["does not", ">/dev/null 2>&1"],
  ])("goes with a grandchild that ignores SIGTERM and %s", async (_what, redirect) => {
    const file = join(scratch(), "pid");
    const line = `(trap '' TERM; sh -c 'echo $PPID' > "$1"; while :; do sleep 0.05; done) ${redirect} & wait`;
    const running = runProgram(["sh", "-c", line, "sh", file], { timeoutMs: 400 });
    running.catch(() => {});
    const grandchild = await identityOf(await pidIn(file));
    onTestFinished(() => void signalProcess(grandchild, "SIGKILL"));
    expect(await isAlive(grandchild)).toBe(true);
    await expect(running).rejects.toMatchObject({ code: "TIMEOUT" });
    expect(await hasEnded(grandchild, 2_000)).toBe(true);
  });

  test("does not hold its caller when a daemon that left the group holds the outputs", async () => {
    const file = join(scratch(), "pid");
    const line = `setsid sh -c 'echo $$ > "$0"; exec sleep 30' "$1" & wait`;
    const startedAtMs = performance.now();
    const running = runProgram(["sh", "-c", line, "sh", file], { timeoutMs: 300 });
    running.catch(() => {});
    const daemon = await identityOf(await pidIn(file));
    onTestFinished(() => void signalProcess(daemon, "SIGKILL"));
    await expect(running).rejects.toMatchObject({ code: "TIMEOUT" });
    expect(performance.now() - startedAtMs).toBeLessThan(8_000);
  });
});

describe("a process's identity", () => {
  test("is the same each time, and alive while it runs", async () => {
    const identity = await sleeper();
    expect(await identifyProcess(identity.pid)).toEqual(identity);
    expect(identity.startTime).toMatch(/^\d+$/);
    expect(identity.bootId).toMatch(/^[0-9a-f-]{36}$/);
    expect(await isAlive(identity)).toBe(true);
    expect(await isAlive({ ...identity, startTime: "1" })).toBe(false);
    expect(await isAlive({ ...identity, bootId: "earlier" })).toBe(false);
    expect(await selfIdentity()).toMatchObject({ pid: process.pid });
  });

  test("of nobody is none; a zombie is nobody", async () => {
    expect(await identifyProcess(2 ** 22 + 1)).toBeUndefined();
    // The shell execs into a program that never waits for its child.
    const { stdout } = await runProgram(node("console.log(1)"));
    expect(stdout).toBe("1\n");
    const parent = await spawnProgram(["sh", "-c", "sleep 0.01 & echo $!; exec sleep 60"], {
      stdio: ["ignore", "pipe", "ignore"],
      detached: true,
    });
    onTestFinished(() => void parent.kill("SIGKILL"));
    const zombie = await new Promise<number>((resolve) =>
      parent.stdout?.once("data", (chunk: Buffer) => resolve(Number(chunk))),
    );
    await vi.waitFor(() => expect(readFileSync(`/proc/${zombie}/stat`, "latin1")).toMatch(/\) Z /), 2_000);
    expect(await identifyProcess(zombie)).toBeUndefined();
  });

  test("whose command's name looks like fields is read all the same", async () => {
    const script = "process.title = 'a) Z 1 (b'; setTimeout(() => {}, 60000); console.log('ready')";
    const child = await spawnProgram(node(script), { stdio: ["ignore", "pipe", "ignore"] });
    onTestFinished(() => void child.kill("SIGKILL"));
    await new Promise((resolve) => child.stdout?.once("data", resolve));
    const identity = await identityOf(child.pid!);
    expect(identity.startTime).toMatch(/^\d+$/);
  });

  test("keeps signals from a stranger with the same pid", async () => {
    const identity = await sleeper();
    const stranger = { ...identity, startTime: "1" };
    expect(await signalProcess(stranger, "SIGKILL")).toBe(false);
    expect(await signalProcess(stranger, "SIGKILL", "group")).toBe(false);
    await endProcessGroup(stranger, 50);
    expect(await isAlive(identity)).toBe(true);
    expect(await signalProcess(identity, "SIGKILL")).toBe(true);
    expect(await hasEnded(identity, 2_000)).toBe(true);
    expect(await signalProcess(identity, "SIGKILL")).toBe(false);
    // A zombie's group can be signalled until Node.js has reaped it.
    await vi.waitFor(() => expect(signalGroup(identity.pid, "SIGKILL")).toBe(false));
  });
});

describe("ending a process group", () => {
  test("asks first, when there is a grace", async () => {
    const file = join(scratch(), "said");
    const line = `trap 'echo 1 > "$1"; exit' TERM; echo ready; while :; do sleep 0.02; done`;
    const child = await spawnProgram(["sh", "-c", line, "sh", file], {
      stdio: ["ignore", "pipe", "ignore"],
      detached: true,
    });
    await new Promise((resolve) => child.stdout?.once("data", resolve));
    await endProcessGroup(await identityOf(child.pid!), 3_000);
    expect(readFileSync(file, "utf8")).toBe("1\n");
  });

  test("kills who does not listen, with all of its group", async () => {
    const file = join(scratch(), "pid");
    const line = `trap '' TERM; (sh -c 'echo $PPID' > "$1"; while :; do sleep 0.05; done) & echo ready; wait`;
    const child = await spawnProgram(["sh", "-c", line, "sh", file], {
      stdio: ["ignore", "pipe", "ignore"],
      detached: true,
    });
    await new Promise((resolve) => child.stdout?.once("data", resolve));
    const [leader, member] = [await identityOf(child.pid!), await identityOf(await pidIn(file))];
    await endProcessGroup(leader, 100);
    expect(await isAlive(leader)).toBe(false);
    expect(await hasEnded(member, 2_000)).toBe(true);
  });

  test("that is gone already is fine", async () => {
    const identity = await sleeper();
    await endProcessGroup(identity);
    await endProcessGroup(identity);
    await endProcessGroup(identity, 100);
    expect(await hasEnded(identity, 0)).toBe(true);
  });

  test("says honestly when it did not end in time", async () => {
    expect(await hasEnded(await sleeper(), 20)).toBe(false);
  });
});

describe("finding processes", () => {
  test("by program, and by a path among their arguments or as their directory", async () => {
    const cwd = scratch();
    const byDirectory = await sleeper({ cwd });
    const file = join(cwd, "nobody");
    const child = await spawnProgram(["tail", "-f", "/dev/null", "-s", "60", file], { stdio: "ignore" });
    onTestFinished(() => void child.kill("SIGKILL"));
    const byArgument = await identityOf(child.pid!);
    // coreutils may be one program of many names.
    const any = /sleep|tail|coreutils|busybox/;
    expect(findProcesses(any, cwd)).toEqual(expect.arrayContaining([byDirectory, byArgument]));
    expect(findProcesses(any, cwd)).toHaveLength(2);
    expect(findProcesses(/^no-such-program$/, cwd)).toEqual([]);
    expect(findProcesses(any, `${cwd}-other`)).toEqual([]);
  });
});
