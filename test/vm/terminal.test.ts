// The command line at a terminal, tried through a pseudo-terminal: keys, window, exit code, and what is left of it.

import { setTimeout as pause } from "node:timers/promises";
import { afterAll, beforeAll, expect, it } from "vitest";
import { SmolVM, type Vm } from "../support/smolvm.js";
import { testState } from "../support/state.js";
import { Terminal, terminalDriver } from "../support/terminal.js";
import { CLI_PATH } from "./cli-program.js";

const state = testState();
const driver = terminalDriver();
let vm: Vm;

beforeAll(async () => {
  vm = await SmolVM.create(state.config());
  await vm.run("echo \"PS1='ready> '\" > /root/.profile");
});

afterAll(() => vm?.delete());

function smolvm(...args: readonly string[]): Terminal {
  return new Terminal(driver, [process.execPath, CLI_PATH, ...args], { ...process.env, TERM: "vt220" });
}

it("opens a shell with the window's size, which follows it", async () => {
  const terminal = smolvm("shell", vm.vmId);
  await terminal.shows("ready> ");
  terminal.type("stty size; echo $TERM; echo $((6 * 7))\r");
  await terminal.shows("24 80\r\nvt220\r\n42\r\n");
  terminal.resize(120, 50);
  await pause(300);
  terminal.type("stty size\r");
  await terminal.shows("50 120\r\n");
  terminal.type("exit 5\r");
  expect(await terminal.ended()).toEqual({ exitCode: 5, state: "cooked" });
});

it("gives Ctrl-C, Ctrl-Z and Ctrl-D to what runs inside", async () => {
  const terminal = smolvm("shell", vm.vmId);
  await terminal.shows("ready> ");
  terminal.type("sleep 1000\r");
  await terminal.shows("sleep 1000\r\n");
  await pause(500);
  terminal.type("\x03");
  await terminal.shows("ready> ");
  terminal.type("echo code:$?\r");
  await terminal.shows("code:130\r\n");
  terminal.type("sleep 2000\r");
  await terminal.shows("sleep 2000\r\n");
  await pause(500);
  terminal.type("\x1a");
  await terminal.shows(/Stopped.*sleep 2000/s);
  terminal.type("kill -9 %1; wait; echo go''ne\r");
  await terminal.shows("gone\r\n");
  await terminal.shows("ready> ");
  // The shell throws away what comes while it sets up its line editor: a person would press the key again.
  const pressing = setInterval(() => terminal.type("\x04"), 2_000);
  terminal.type("\x04");
  expect(await terminal.ended().finally(() => clearInterval(pressing))).toEqual({ exitCode: 0, state: "cooked" });
});

it("runs a program on it with exec -it, and passes its exit code on", async () => {
  const terminal = smolvm("exec", "-it", vm.vmId, "--", "sh", "-c", "tty; read x; echo got:$x; exit 3");
  await terminal.shows("/dev/pts/");
  terminal.type("hello\r");
  await terminal.shows("got:hello\r\n");
  expect(await terminal.ended()).toEqual({ exitCode: 3, state: "cooked" });
});

it("runs a whole VM on it", async () => {
  const terminal = smolvm("run", "--memory", "256", "--network", "none", "-it", "--", "sh", "-c", "read x; exit 6");
  await pause(500);
  terminal.type("\r");
  expect(await terminal.ended()).toEqual({ exitCode: 6, state: "cooked" });
});

it("leaves the terminal as it was when the program is not there, or it is killed", async () => {
  const missing = smolvm("exec", "-it", vm.vmId, "--", "/no/such/program");
  expect(await missing.ended()).toEqual({ exitCode: 127, state: "cooked" });
  const shell = smolvm("shell", vm.vmId);
  await shell.shows("ready> ");
  shell.type("kill -9 $$\r");
  expect(await shell.ended()).toEqual({ exitCode: 137, state: "cooked" });
});

it("reads lines from a pipe where there is no terminal", async () => {
  const { execFileSync } = await import("node:child_process");
  const output = execFileSync(process.execPath, [CLI_PATH, "shell", vm.vmId], { input: "echo $((6 * 7))\n" });
  expect(String(output)).toBe("42\n");
});
