import { expect, test, vi } from "vitest";
import { Deadline } from "../base/deadline.js";
import type { CommandResult } from "../guest/command-result.js";
import { type CommandHooks, type HookCall, HookRegistry, hookedCommand } from "./command-hooks.js";

const soon = () => Deadline.after(5_000);
const command = hookedCommand("a1", { argv: ["ls", "-l"] }, { cwd: "/srv", env: { A: "1" } });
const result = { exitCode: 0 } as CommandResult;

function hooked(...all: readonly CommandHooks[]): HookCall {
  const registry = new HookRegistry();
  for (const hooks of all) registry.add("a1", hooks);
  const call = registry.for(command);
  if (call === undefined) throw new RangeError("no hooks");
  return call;
}

test("hooks see what is to run, and what became of it", async () => {
  const seen: unknown[] = [];
  const call = hooked({
    beforeRun: (what) => void seen.push(what),
    afterRun: (what, how) => seen.push([what.argv, how]),
    onError: (what, why) => seen.push([what.argv, why]),
  });
  await call.before(soon());
  call.after(result);
  call.failed("broken");
  expect(seen).toEqual([
    {
      vmId: "a1",
      argv: ["ls", "-l"],
      line: undefined,
      cwd: "/srv",
      user: undefined,
      env: { A: "1" },
      pty: undefined,
      detached: false,
    },
    [["ls", "-l"], result],
    [["ls", "-l"], "broken"],
  ]);
  expect(Object.isFrozen(seen[0])).toBe(true);
});

test.each<[string, CommandHooks["beforeRun"], string]>([
  ["false", () => false, "beforeRun answered false"],
  ["a reason", () => ({ refuse: "not on Fridays" }), "not on Fridays"],
  ["a late reason", async () => ({ refuse: "not on Fridays" }), "not on Fridays"],
  [
    "an error",
    () => {
      throw new RangeError("policy is missing");
    },
    "policy is missing",
  ],
  ["a rejection", () => Promise.reject(new RangeError("policy is missing")), "policy is missing"],
])("beforeRun refuses with %s", async (_how, beforeRun, reason) => {
  const later = vi.fn();
  const refused = hooked({ beforeRun: () => true }, { beforeRun }, { beforeRun: later }).before(soon());
  await expect(refused).rejects.toMatchObject({ code: "COMMAND_REFUSED", details: { vmId: "a1", reason } });
  expect(later).not.toHaveBeenCalled();
});

test("a beforeRun that does not answer ends with the command's own limit", async () => {
  const never = hooked({ beforeRun: () => new Promise<undefined>(() => {}) });
  await expect(never.before(Deadline.after(10))).rejects.toMatchObject({ code: "TIMEOUT" });
  const controller = new AbortController();
  const waiting = never.before(Deadline.after(60_000, controller.signal));
  controller.abort();
  await expect(waiting).rejects.toMatchObject({ code: "ABORTED" });
});

test("what observers throw is a warning, whoever else observes goes on", async () => {
  const warnings: string[] = [];
  const warn = vi.spyOn(process, "emitWarning").mockImplementation((text) => void warnings.push(String(text)));
  const other = vi.fn();
  const call = hooked(
    {
      afterRun: () => {
        throw new RangeError("oops");
      },
      onError: () => Promise.reject(new RangeError("late oops")),
    },
    { afterRun: other, onError: other },
  );
  call.after(result);
  call.failed("broken");
  await new Promise((resolve) => setTimeout(resolve, 5));
  warn.mockRestore();
  expect(other).toHaveBeenCalledTimes(2);
  expect(warnings).toEqual([expect.stringContaining("afterRun"), expect.stringContaining("onError")]);
});

test("belong to a VM's id, or to all, until they are taken away or the VM is gone", () => {
  const registry = new HookRegistry();
  expect(registry.for(command)).toBeUndefined();
  const removeOne = registry.add("a1", {});
  const removeAll = registry.add(undefined, {});
  registry.add("b2", {});
  removeOne();
  removeOne();
  expect(registry.for(command)).toBeDefined();
  removeAll();
  expect(registry.for(command)).toBeUndefined();
  registry.add("a1", {});
  registry.forget("a1");
  expect(registry.for(command)).toBeUndefined();
});

test.each([
  ["hooks", null],
  ["hooks", "text"],
  ["hooks.beforeRun", { beforeRun: "text" }],
  ["hooks.beforeRuns", { beforeRuns: () => {} }],
])("%s is refused", (field, hooks) => {
  const add = () => new HookRegistry().add("a1", hooks as CommandHooks);
  expect(add).toThrow(expect.objectContaining({ code: "INVALID_CONFIG", details: expect.objectContaining({ field }) }));
});
