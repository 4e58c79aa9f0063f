import { expect, test } from "vitest";
import type { CheckContext, CheckResult, HostCheck, HostNeed } from "./checks/check.js";
import { vmmUserCheck } from "./checks/vmm-user.js";
import { runDoctor } from "./doctor.js";

function check(id: string, requiredFor: HostNeed, run: () => Promise<CheckResult>): HostCheck {
  return { id, title: id, requiredFor, run };
}

const ok = async (): Promise<CheckResult> => ({ status: "ok", found: "there" });
const fail = async (): Promise<CheckResult> => ({ status: "fail", found: "gone", remedy: "bring it" });

test("a failed check makes the report not ok only when the main job needs it", async () => {
  expect((await runDoctor({ checks: [check("a", "run", ok), check("b", "isolation", fail)] })).ok).toBe(true);
  expect((await runDoctor({ checks: [check("a", "run", fail)] })).ok).toBe(false);
  expect((await runDoctor({ checks: [check("a", "network", fail)] })).ok).toBe(false);
});

test("image tools are needed only as long as there is no image", async () => {
  const checks = [check("image-tools", "image-build", fail)];
  expect((await runDoctor({ checks })).ok).toBe(false);
  expect((await runDoctor({ checks, hasDefaultImage: true })).ok).toBe(true);
});

test("a check that throws, or never answers, is a failed check", async () => {
  const checks = [
    check("throws", "run", () => Promise.reject(new Error("broken"))),
    check("hangs", "run", () => new Promise(() => {})),
  ];
  const { checks: reports } = await runDoctor({ checks, timeoutMs: 50 });
  expect(reports.map(({ id, status, found }) => [id, status, found])).toEqual([
    ["throws", "fail", "the check failed: broken"],
    ["hangs", "fail", "no answer within 50 ms"],
  ]);
});

test("an abort ends the wait for checks that hang", async () => {
  const checks = [check("hangs", "run", () => new Promise(() => {}))];
  await expect(runDoctor({ checks, signal: AbortSignal.timeout(20) })).rejects.toMatchObject({ code: "ABORTED" });
});

test("hardware isolation is promised only after a guest booted with it", async () => {
  const promise = async (result: CheckResult) => {
    const report = await runDoctor({ checks: [check("accelerator", "isolation", async () => result)] });
    return report.promises.find(({ id }) => id === "hardware-isolation");
  };
  expect(await promise({ status: "ok", found: "KVM booted a guest" })).toMatchObject({ holds: true });
  const untried = await promise({ status: "warn", found: "opens" });
  expect(untried?.holds).toBe(false);
  expect(untried?.because).toContain("security boundary");
});

test.each([
  [true, false],
  [false, true],
])("that the VMM is not root is promised exactly to those who are not (root: %s)", async (isRoot, holds) => {
  const run = () => vmmUserCheck.run({ isRoot } as CheckContext);
  const { ok, promises } = await runDoctor({ checks: [check("vmm-user", "isolation", run)] });
  expect(promises.find(({ id }) => id === "vmm-unprivileged")).toMatchObject({ holds });
  expect(ok).toBe(true);
});

test("a promise names the checks that break it", async () => {
  const route = check("default-route", "network", async () => ({ status: "ok", found: "by eth0" }));
  const { promises } = await runDoctor({ checks: [check("passt", "network", fail), route] });
  expect(promises.find(({ id }) => id === "rootless-network")).toMatchObject({ holds: false, because: "gone" });
});

test("what this version does not do is promised on no host", async () => {
  const { promises } = await runDoctor({
    checks: [check("cgroups", "limits", async () => ({ status: "ok", found: "writable" }))],
  });
  expect(promises.find(({ id }) => id === "resource-limits")?.holds).toBe(false);
});

test("this host answers every check in time", async () => {
  const { checks } = await runDoctor();
  expect(checks.length).toBeGreaterThan(8);
  for (const report of checks) expect(report.found, report.id).not.toMatch(/no answer|the check failed/);
});
