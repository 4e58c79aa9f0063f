// The environment of a VM's commands, and hooks on them, seen from handles, programs and the command line.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Program } from "../support/program.js";
import { type HookedCommand, SmolVM, type Vm } from "../support/smolvm.js";
import { testState } from "../support/state.js";
import { rejection } from "../support/wait.js";
import { CliProgram } from "./cli-program.js";

const state = testState();
const AWKWARD = "two\nlines, \"double\" and 'single' quotes, $HOME, a \\, a tab\t, ü 世界 🐧, a space at the end ";
let vm: Vm;

beforeAll(async () => {
  vm = await SmolVM.create(state.config({ envVars: { GIVEN: "at first" } }));
});

afterAll(() => vm?.delete());

/** A variable as a command sees it. */
async function seen(name: string): Promise<string> {
  return (await vm.exec(["python3", "-c", `import os; print(os.environ.get("${name}"), end="")`])).stdout;
}

describe("env", () => {
  it("is that of all later commands, byte by byte, whoever runs them", async () => {
    await vm.env.set({ AWKWARD, OTHER: "1" });
    expect(await seen("AWKWARD")).toBe(AWKWARD);
    expect(await seen("GIVEN")).toBe("at first");
    await using program = await Program.start();
    expect((await program.call("run", vm.vmId, 'printf %s "$AWKWARD"')).stdout).toBe(AWKWARD);
    expect((await vm.run("echo $OTHER", { env: { OTHER: "own" } })).output).toBe("own");
    expect(await (await SmolVM.fromId(vm.vmId)).env.list()).toEqual({ GIVEN: "at first", AWKWARD, OTHER: "1" });
  });

  it("stays over a restart, and what was removed stays away", async () => {
    await vm.env.set({ REPLACED: "old" });
    await vm.env.set({ REPLACED: "new" });
    await vm.env.unset(["OTHER", "NEVER_THERE"]);
    await vm.stop();
    await vm.env.set({ WHILE_STOPPED: "yes" });
    await vm.start();
    expect([await seen("AWKWARD"), await seen("REPLACED"), await seen("OTHER"), await seen("WHILE_STOPPED")]).toEqual([
      AWKWARD,
      "new",
      "None",
      "yes",
    ]);
    await vm.env.unset(Object.keys(await vm.env.list()));
    expect([await vm.env.list(), await seen("AWKWARD")]).toEqual([{}, "None"]);
  });

  it("takes changes of two programs at once", async () => {
    const cli = new CliProgram();
    const env = { ...cli.env, SMOLVM_STATE_DIR: state.stateDir };
    const names = Array.from({ length: 6 }, (_, index) => `AT_ONCE_${index}`);
    const others = names.map((name) => spawnCli(["env", "set", vm.vmId, `${name}=cli`], env));
    await Promise.all([...names.map((name) => vm.env.set({ [`${name}_TOO`]: "sdk" })), ...others]);
    const listed = await vm.env.list();
    expect(Object.keys(listed).filter((name) => name.startsWith("AT_ONCE_"))).toHaveLength(12);
    expect(await seen("AT_ONCE_5")).toBe("cli");
    expect(await seen("AT_ONCE_0_TOO")).toBe("sdk");
    cli[Symbol.dispose]();
  });
});

/** Runs the command line against this file's VMs. */
async function spawnCli(
  args: readonly string[],
  env: NodeJS.ProcessEnv,
): Promise<{ exitCode: number | null; stdout: string; stderr: string }> {
  const { execFile } = await import("node:child_process");
  const { CLI_PATH } = await import("./cli-program.js");
  return new Promise((resolve) => {
    const child = execFile(process.execPath, [CLI_PATH, ...args], { env }, (_error, stdout, stderr) => {
      resolve({ exitCode: child.exitCode, stdout, stderr });
    });
    child.stdin?.end();
  });
}

describe("hooks", () => {
  it("see every way of running a command, from every handle of the program, and nothing after they are taken away", async () => {
    const before: HookedCommand[] = [];
    const after: [string, number][] = [];
    const remove = vm.use({
      beforeRun: (command) => void before.push(command),
      afterRun: ({ argv, line }, { exitCode }) => after.push([argv?.join(" ") ?? line ?? "", exitCode]),
    });
    const again = await SmolVM.fromId(vm.vmId);
    await vm.run("exit 3");
    await again.exec(["true"], { cwd: "/tmp", user: "nobody", env: { A: "1" } });
    await again.spawn("exit 4", { pty: { cols: 80, rows: 24 } });
    await vm.shell({ pty: null, stdin: "exit 5\n" });
    const detached = vm.spawn("exit 6", { detached: true });
    await detached;
    remove();
    await vm.run("exit 7");
    expect(after).toEqual([
      ["exit 3", 3],
      ["true", 0],
      ["exit 4", 4],
      ["", 5],
      ["exit 6", 6],
    ]);
    expect(before[1]).toMatchObject({ vmId: vm.vmId, argv: ["true"], cwd: "/tmp", user: "nobody", env: { A: "1" } });
    expect(before[2]).toMatchObject({ line: "exit 4", pty: { cols: 80, rows: 24 }, detached: false });
    expect(before[4]).toMatchObject({ detached: true });
  });

  it("refuse a command before the guest sees it", async () => {
    const errors: unknown[] = [];
    const remove = vm.use({
      beforeRun: () => ({ refuse: "not today" }),
      onError: (_command, error) => errors.push(error),
    });
    const refused = { code: "COMMAND_REFUSED", details: { reason: "not today" } };
    expect(await rejection(vm.run("touch /tmp/refused"))).toMatchObject(refused);
    expect(await rejection(vm.exec(["touch", "/tmp/refused"]))).toMatchObject(refused);
    expect(await rejection(Promise.resolve(vm.spawn("touch /tmp/refused")))).toMatchObject(refused);
    expect(await rejection(Promise.resolve(vm.spawn("touch /tmp/refused", { detached: true })))).toMatchObject(refused);
    remove();
    expect(errors).toHaveLength(4);
    expect((await vm.exec(["test", "-e", "/tmp/refused"])).exitCode).toBe(1);
  });

  it("of a module are those of the command line", async () => {
    const directory = mkdtempSync(join(tmpdir(), "smolvm-hooks-"));
    const module = join(directory, "hooks.mjs");
    writeFileSync(
      module,
      "export const hooks = { beforeRun: ({ argv }) => argv?.[0] === 'true' || { refuse: 'only true' } };",
    );
    const env = { ...process.env, SMOLVM_HOOKS: module };
    expect(await spawnCli(["exec", vm.vmId, "--", "true"], env)).toMatchObject({ exitCode: 0 });
    const refused = await spawnCli(["exec", vm.vmId, "--", "touch", "/tmp/refused-too"], env);
    expect(refused).toMatchObject({ exitCode: 77, stderr: expect.stringContaining("only true") });
    expect(await spawnCli(["shell", vm.vmId], env)).toMatchObject({ exitCode: 77 });
    const missing = await spawnCli(["exec", vm.vmId, "--", "true"], {
      ...env,
      SMOLVM_HOOKS: join(directory, "none.mjs"),
    });
    expect(missing).toMatchObject({ exitCode: 64, stderr: expect.stringContaining("SMOLVM_HOOKS") });
    expect((await vm.exec(["test", "-e", "/tmp/refused-too"])).exitCode).toBe(1);
    rmSync(directory, { recursive: true });
  });
});
