// Programs that are killed in the middle of anything: the next one brings disk, processes and database to agreement.

import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { Program } from "../support/program.js";
import { identifyProcess, SmolVM, VmManager } from "../support/smolvm.js";
import { expectNothingLeft, processesAbout, testState, vmmPids, withDatabase } from "../support/state.js";
import { eventually, pause, rejection } from "../support/wait.js";

const state = testState();

/** A new program reconciles; a second one then finds nothing to do, and what is on record is what there is. */
async function expectAgreement() {
  await using first = await Program.start();
  const report = await first.call("reconcile");
  expect(report.failed).toEqual([]);
  await using second = await Program.start();
  expect(await second.call("reconcile")).toEqual({ cleaned: [], failed: [], skipped: [] });
  const vms = await second.call("list");
  const running = vms.filter(({ status }) => status === "running" || status === "paused");
  expect(vms.every(({ transition }) => transition === null)).toBe(true);
  expect(running.map(({ pid }) => pid).sort()).toEqual(vmmPids(state.runtimeDir).sort());
  expect(readdirOrNone(join(state.stateDir, "vms")).sort()).toEqual(vms.map(({ vmId }) => vmId).sort());
  expect(readdirOrNone(state.runtimeDir)).toHaveLength(running.length);
  return { report, vms };
}

describe("a program killed", () => {
  it.each([20, 300, 700, 1_200, 2_200])("%i ms into a boot", async (ms) => {
    const program = await Program.start();
    void program.call("boot", state.config({ vmId: "crash" }));
    await pause(ms);
    await program.kill();
    const { vms } = await expectAgreement();
    await using successor = await Program.start();
    for (const { status, failure } of vms) {
      expect(["error", "created", "running"]).toContain(status);
      if (status === "error") expect(failure).toMatchObject({ code: "INTERRUPTED" });
      await successor.call("delete", "crash");
    }
    await expectNothingLeft(state.stateDir);
  });

  it("during a start, a stop and a delete of a VM that then lives on", async () => {
    await using manager = new VmManager();
    const id = await manager.create(state.config({ vmId: "phoenix" }));
    for (const ms of [100, 900]) {
      const starter = await Program.start();
      void starter.call("start", id);
      await pause(ms);
      await starter.kill();
      await expectAgreement();
    }
    await manager.start(id);
    expect((await manager.run(id, "echo alive > /root/kept; sync; cat /root/kept")).output).toBe("alive");
    for (const ms of [5, 150]) {
      const stopper = await Program.start();
      void stopper.call("stop", id);
      await pause(ms);
      await stopper.kill();
      await expectAgreement();
      expect(["running", "stopped"]).toContain((await manager.info(id)).status);
      await manager.start(id);
      expect((await manager.run(id, "cat /root/kept")).output).toBe("alive");
    }
    const deleter = await Program.start();
    void deleter.call("delete", id);
    await pause(30);
    await deleter.kill();
    const { vms } = await expectAgreement();
    if (vms.length > 0) await manager.delete(id);
    expect(await manager.create(state.config({ vmId: "phoenix" }))).toBe(id);
    await manager.delete(id);
    await expectNothingLeft(state.stateDir);
  });

  it("while its VM runs: the VM lives on for others", async () => {
    const program = await Program.start();
    const id = await program.call("boot", state.config());
    await program.kill();
    const { report } = await expectAgreement();
    expect(report).toEqual({ cleaned: [], failed: [], skipped: [] });
    await using vm = await SmolVM.fromId(id);
    expect((await vm.run("echo still here")).output).toBe("still here");
    await vm.delete();
  });

  it('takes its VMs along with lifetime "process", and those of others not', async () => {
    const program = await Program.start();
    const mortal = await program.call("boot", state.config({ lifetime: "process" }));
    const persistent = await program.call("create", state.config());
    await program.kill();
    const { report, vms } = await expectAgreement();
    expect(report.cleaned.map(({ subject }) => subject)).toEqual([mortal]);
    expect(vms.map(({ vmId }) => vmId)).toEqual([persistent]);
    await using manager = new VmManager();
    await manager.delete(persistent);
  });

  it.each([1_000, 6_000])("%i ms into an image build leaves nothing that prune does not find", async (ms) => {
    const cacheDir = mkdtempSync(join(tmpdir(), "smolvm-cache-"));
    const env = { SMOLVM_CACHE_DIR: cacheDir };
    try {
      const builder = await Program.start({ env });
      void builder.call("buildImage", "debian");
      await eventually(() => (readdirOrNone(join(cacheDir, "staging")).length > 0 ? true : undefined));
      await eventually(() => (builder.events.filter((event) => "progress" in event).length >= 2 ? true : undefined));
      await pause(ms);
      await builder.kill();
      expect(builder.events.some((event) => "error" in event)).toBe(false);
      await using cleaner = await Program.start({ env });
      await eventually(async () => {
        await cleaner.call("pruneImages");
        return processesAbout(cacheDir).length === 0 && readdirSync(join(cacheDir, "staging")).length === 0
          ? true
          : undefined;
      });
      expect(readdirOrNone(join(cacheDir, "images"))).toEqual([]);
      expect(readdirOrNone(join(cacheDir, "names"))).toEqual([]);
    } finally {
      rmSync(cacheDir, { recursive: true, force: true });
    }
  });
});

describe("a recorded pid that belongs to somebody else by now", () => {
  it.each([
    ["another start time", (start: string, boot: string) => ({ start, boot })],
    [
      "the same start time of another boot",
      (_start: string, boot: string) => ({ start: undefined, boot: boot.replace(/^./, "x") }),
    ],
  ])("is never signalled: %s", async (_name, tamper) => {
    // It leads a group of its own, as a VMM would.
    const innocent = spawn("sleep", ["600"], { detached: true, stdio: "ignore" });
    try {
      await using manager = new VmManager();
      const id = await manager.create(state.config());
      await manager.start(id);
      process.kill((await manager.info(id)).pid!, "SIGKILL");
      await eventually(() => (vmmPids(state.runtimeDir).length === 0 ? true : undefined));
      const own = (await identifyProcess(innocent.pid!))!;
      withDatabase(state.databasePath, (db) => {
        const row = db.prepare("SELECT start_time, boot_id FROM resources WHERE name = 'vmm'").get() as Record<
          string,
          string
        >;
        const { start, boot } = tamper(row["start_time"]!, row["boot_id"]!);
        db.prepare("UPDATE resources SET pid = ?, start_time = ?, boot_id = ? WHERE name = 'vmm'").run(
          own.pid,
          start ?? own.startTime,
          boot,
        );
      });
      expect(await manager.info(id)).toMatchObject({ status: "error" });
      await manager.delete(id);
      expect(isRunning(innocent)).toBe(true);
    } finally {
      innocent.kill("SIGKILL");
    }
  });
});

describe("two programs at once", () => {
  it("start one VM: both succeed, there is one VMM; delete it: both end well, it is gone", async () => {
    await using a = await Program.start();
    await using b = await Program.start();
    const id = await a.call("create", state.config());
    await Promise.all([a.call("start", id), b.call("start", id)]);
    expect(vmmPids(state.runtimeDir)).toHaveLength(1);
    const outputs = await Promise.all([a, b].map((program) => program.call("exec", id, ["echo", "both"])));
    expect(outputs.map(({ output }) => output)).toEqual(["both", "both"]);
    await Promise.all([a.call("pause", id), b.call("pause", id)]);
    await Promise.all([a.call("resume", id), b.call("resume", id)]);
    const deleted = await Promise.allSettled([a.call("delete", id), b.call("delete", id)]);
    for (const one of deleted)
      if (one.status === "rejected") expect(one.reason).toMatchObject({ code: "VM_NOT_FOUND" });
    expect(deleted.some(({ status }) => status === "fulfilled")).toBe(true);
    expect(await rejection(a.call("info", id))).toMatchObject({ code: "VM_NOT_FOUND" });
    await Promise.all([a.end(), b.end()]);
    await expectNothingLeft(state.stateDir);
  });

  it("reconcile at once what a third one left", async () => {
    const program = await Program.start();
    for (let n = 0; n < 3; n++) void program.call("boot", state.config({ lifetime: "process" }));
    await pause(1_000);
    await program.kill();
    const programs = await Program.startMany(3);
    const reports = await Promise.all(programs.map((one) => one.call("reconcile")));
    expect(reports.flatMap(({ failed }) => failed)).toEqual([]);
    await Promise.all(programs.map((one) => one.end()));
    const { vms } = await expectAgreement();
    await using manager = new VmManager();
    for (const { vmId } of vms) await manager.delete(vmId);
    await expectNothingLeft(state.stateDir);
  });
});

function readdirOrNone(path: string): string[] {
  return existsSync(path) ? readdirSync(path) : [];
}

function isRunning(child: ChildProcess): boolean {
  return child.exitCode === null && child.signalCode === null;
}
