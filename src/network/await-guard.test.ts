import { once } from "node:events";
import { expect, onTestFinished, test, vi } from "vitest";
import { Deadline } from "../base/deadline.js";
import { SmolVMError } from "../errors/smolvm-error.js";
import { spawnProgram } from "../host/process.js";
import type { ChildEnd, ReadyChild } from "../host/ready-child.js";
import { awaitGuard } from "./await-guard.js";

const failure = async ({ exitCode }: ChildEnd) => new SmolVMError("NETWORK_FAILED", `It ended with ${exitCode}`);
const never = new Promise<undefined>(() => {});

/** A process that leads a group, with what is said of it. */
async function guarded(settled: ReadyChild["settled"]) {
  const child = await spawnProgram(["sleep", "60"], { stdio: "ignore", detached: true });
  onTestFinished(() => void child.kill("SIGKILL"));
  const ended = once(child, "exit") as Promise<[number | null, NodeJS.Signals | null]>;
  const hasEnded = () => child.exitCode !== null || child.signalCode !== null;
  const guard = { pid: child.pid!, settled, hasEnded, forget: vi.fn<() => void>() };
  return { guard, ended };
}

test("a guard that works is left alone", async () => {
  const { guard } = await guarded(Promise.resolve(undefined));
  await awaitGuard(guard, { action: "Start", deadline: Deadline.after(10_000), failure });
  expect(guard.hasEnded()).toBe(false);
  expect(guard.forget).toHaveBeenCalledOnce();
});

test("a guard that has ended is an error of the caller's", async () => {
  const end = { exitCode: 3, signal: null };
  const guard = { pid: process.pid, settled: Promise.resolve(end), hasEnded: () => true, forget: vi.fn<() => void>() };
  const waiting = awaitGuard(guard, { action: "Start", deadline: Deadline.after(10_000), failure });
  await expect(waiting).rejects.toMatchObject({ code: "NETWORK_FAILED", message: "It ended with 3" });
  expect(guard.forget).toHaveBeenCalledOnce();
});

test.each([
  ["TIMEOUT", () => Deadline.after(50)],
  ["ABORTED", () => Deadline.after(10_000, AbortSignal.timeout(50))],
])("a guard that is not ready in time is ended: %s", async (code, deadline) => {
  const { guard, ended } = await guarded(never);
  const waiting = awaitGuard(guard, { action: "Start", deadline: deadline(), failure });
  await expect(waiting).rejects.toMatchObject({ code });
  expect(await ended).toEqual([null, "SIGTERM"]);
  expect(guard.forget).toHaveBeenCalledOnce();
});
