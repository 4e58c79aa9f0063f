// Commands that attack the agent from inside: it goes on serving.

import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import { SmolVM, type Vm } from "../support/smolvm.js";
import { testState } from "../support/state.js";
import { rejection } from "../support/wait.js";

const state = testState();
let vm: Vm;

beforeAll(async () => {
  vm = await SmolVM.create(state.config());
});

afterEach(async () => {
  expect((await vm.run("echo well")).output).toBe("well");
});

afterAll(() => vm?.delete());

it("survives kill -9 -1, which ends all others", async () => {
  const bystander = vm.run("echo up; sleep 600", { onOutput: () => void strike() });
  let isStruck = false;
  const strike = async () => {
    if (isStruck) return;
    isStruck = true;
    await vm.exec(["sh", "-c", "kill -9 -1"]);
  };
  expect(await bystander).toMatchObject({ signal: "SIGKILL", stdout: "up\n" });
});

it("survives signals to itself that are not a request to end", async () => {
  for (const signal of [
    "KILL",
    "STOP",
    "HUP",
    "QUIT",
    "USR1",
    "PIPE",
    "ABRT",
    "ALRM",
    "SEGV",
    "BUS",
    "FPE",
    "ILL",
    "TRAP",
    "SYS",
    "STKFLT",
  ]) {
    await vm.exec(["kill", `-${signal}`, "1"]);
  }
});

it("survives a fork bomb, which ends with its timeout", async () => {
  const bomb = [
    "import os, resource",
    "resource.setrlimit(resource.RLIMIT_NPROC, (200, 200))",
    "while True:",
    "    try: os.fork()",
    "    except OSError: pass",
  ].join("\n");
  const error = await rejection(vm.exec(["python3", "-c", bomb], { user: "nobody", timeoutMs: 5_000 }));
  expect(error).toMatchObject({ code: "COMMAND_TIMEOUT" });
  expect((await vm.exec(["pgrep", "-c", "python3"])).output).toBe("0");
});

it("survives a command that eats all memory", async () => {
  const eater = "a = []\nwhile True: a.append(b'x' * 10_000_000)";
  const result = await vm.exec(["python3", "-c", eater]);
  expect(result.ok).toBe(false);
});

it("survives a command that closes, floods or reads what it inherited", async () => {
  const result = await vm.exec(["sh", "-c", "ls -l /proc/self/fd | wc -l; exec 0<&- 1>&- 2>&-; sleep 0.2"]);
  expect(result.exitCode).toBe(0);
  const fds = await vm.exec(["python3", "-c", "import os; print(sorted(map(int, os.listdir('/proc/self/fd')))[:4])"]);
  // 0, 1, 2 and the one that lists them.
  expect(fds.output).toBe("[0, 1, 2, 3]");
  const listed = await vm.exec(["python3", "-c", "import os; print(len(os.listdir('/proc/self/fd')))"]);
  expect(listed.output).toBe("4");
});

it("survives writes to its own devices", async () => {
  // A lane is open in the agent, so nobody else gets at it; whatever comes of it, the channel stands.
  await vm.run('for lane in /dev/vport*; do timeout 2 sh -c "head -c 65536 /dev/urandom > $lane"; done; true');
});
