// `smolvm run`: what passes through it, how it ends, and that nothing stays.

import { randomBytes } from "node:crypto";
import { afterAll, afterEach, describe, expect, it } from "vitest";
import { CliProgram, until } from "./cli-program.js";

const cli = new CliProgram();
const RUN = ["run", "--network", "none"];

afterEach(() => {
  expect(cli.leftovers()).toEqual([]);
});

afterAll(() => cli[Symbol.dispose]());

describe("smolvm run", () => {
  it("passes 5 MiB of anything from stdin to stdout", async () => {
    const data = randomBytes(5 * 1024 * 1024);
    const { exitCode, stdout, stderr } = await cli.run([...RUN, "--", "cat"], data);
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
    expect(stdout.equals(data)).toBe(true);
  });

  it("keeps stdout and stderr apart and passes the exit code on", async () => {
    const { exitCode, stdout, stderr } = await cli.run([...RUN, "--", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    expect({ exitCode, stdout: stdout.toString(), stderr }).toEqual({ exitCode: 7, stdout: "out\n", stderr: "err\n" });
  });

  it("ends as a shell would when a signal ended the command, and says so with --json", async () => {
    const ended = await cli.json([...RUN, "--", "sh", "-c", "echo so far; kill -TERM $$"]);
    expect(ended).toMatchObject({
      ok: false,
      command: "run",
      exitCode: 143,
      realExitCode: 143,
      data: { stdout: "so far\n", signal: "SIGTERM" },
      error: { code: "COMMAND_FAILED" },
      stderr: "",
    });
  });

  it("passes variables, the directory and the user on", async () => {
    const args = ["--env", "A=1 2", "--cwd", "/etc", "--user", "nobody", "--", "sh", "-c", 'echo "$A" $PWD $(id -un)'];
    const { stdout } = await cli.run([...RUN, ...args]);
    expect(stdout.toString()).toBe("1 2 /etc nobody\n");
  });

  it("does not wait for a stdin that stays open", async () => {
    const running = cli.start([...RUN, "--", "true"], null);
    expect((await running.ended).exitCode).toBe(0);
  });

  it("kills a command after its timeout", async () => {
    const { exitCode, stdout, stderr } = await cli.run([
      ...RUN,
      "--timeout",
      "1",
      "--",
      "sh",
      "-c",
      "echo a; sleep 99",
    ]);
    expect({ exitCode, stdout: stdout.toString() }).toEqual({ exitCode: 124, stdout: "a\n" });
    expect(stderr).toMatch(/^smolvm: The command ran longer than 1000 ms/);
  });

  it("ends with 127 when there is no such program", async () => {
    const { exitCode, stdout, stderr } = await cli.run([...RUN, "--", "no-such-program"]);
    expect({ exitCode, stdout: stdout.toString() }).toEqual({ exitCode: 127, stdout: "" });
    expect(stderr).toContain("no-such-program");
  });

  it("has a network by default", async () => {
    const { stdout } = await cli.run(["run", "--", "sh", "-c", "ls /sys/class/net"]);
    expect(stdout.toString()).toMatch(/^e(th|n)/m);
  });

  it.each([
    ["SIGINT", 130],
    ["SIGTERM", 143],
  ] as const)("removes the VM on %s", async (signal, exitCode) => {
    const running = cli.start([...RUN, "--", "sh", "-c", "trap '' INT TERM; sleep 300 & echo ready; wait"], null);
    await until(() => running.output().includes("ready"));
    running.child.kill(signal);
    const sentAtMs = performance.now();
    expect((await running.ended).exitCode).toBe(exitCode);
    expect(performance.now() - sentAtMs).toBeLessThan(10_000);
  });

  it("removes the VM when it is interrupted while it boots", async () => {
    const running = cli.start([...RUN, "--", "true"], null);
    await until(() => cli.leftovers().some((line) => line.includes("qemu-system")));
    running.child.kill("SIGINT");
    const { exitCode, stderr } = await running.ended;
    expect({ exitCode, stderr }).toEqual({ exitCode: 130, stderr: "smolvm: Interrupted by SIGINT\n" });
  });

  it("does not hang on a reader that stopped reading", async () => {
    const running = cli.start([...RUN, "--", "sh", "-c", "echo ready; yes"], null);
    await until(() => running.output().includes("ready"));
    running.child.stdout?.pause();
    await new Promise((resolve) => setTimeout(resolve, 1000));
    running.child.kill("SIGINT");
    await until(() => running.child.exitCode !== null, 10_000);
    running.child.stdout?.resume();
    expect((await running.ended).exitCode).toBe(130);
  });

  it("ends quietly when its reader has seen enough", async () => {
    const line = "set -o pipefail; smolvm run --network none -- yes 123456789 | head -c 10; echo $?";
    const { stdout, stderr } = await cli.bash(line);
    expect({ stdout: stdout.toString(), stderr }).toEqual({ stdout: "123456789\n141\n", stderr: "" });
  });

  it("leaves a VM that reconcile removes when it is killed", async () => {
    const running = cli.start([...RUN, "--", "sh", "-c", "echo ready; sleep 300"], null);
    await until(() => running.output().includes("ready"));
    running.child.kill("SIGKILL");
    await running.ended;
    expect(cli.leftovers()).not.toEqual([]);
    const { data, exitCode } = await cli.json(["reconcile"]);
    expect({ exitCode, cleaned: data.cleaned.length }).toEqual({ exitCode: 0, cleaned: 1 });
  });
});
