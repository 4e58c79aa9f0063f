// Programs that are killed while they copy a machine or take it back, and programs that do so at the same time.

import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import {
  captures,
  counter,
  expectNoCapturesAtTheEnd,
  expectRightClock,
  expectToCount,
  furnish,
  marks,
} from "../support/copies.js";
import { Program } from "../support/program.js";
import { identifyProcess, SmolVM, type Vm, VmManager } from "../support/smolvm.js";
import { expectNothingLeft, processesAbout, testState, vmmPids, withDatabase } from "../support/state.js";
import { pause } from "../support/wait.js";

const state = testState();
expectNoCapturesAtTheEnd(state);

afterAll(() => expectNothingLeft(state.stateDir));

/** Moments after a change was claimed, in milliseconds. */
const MOMENTS = [0, 15, 40, 80, 140];

/** A new program reconciles, a second one finds nothing to do; what is on record is what there is. */
async function expectAgreement() {
  await using first = await Program.start();
  expect((await first.call("reconcile")).failed).toEqual([]);
  await using second = await Program.start();
  expect(await second.call("reconcile")).toEqual({ cleaned: [], failed: [], skipped: [] });
  const vms = await second.call("list");
  const running = vms.filter(({ status }) => status === "running" || status === "paused");
  expect(vms.every(({ transition }) => transition === null)).toBe(true);
  expect(running.map(({ pid }) => pid).sort()).toEqual(vmmPids(state.runtimeDir).sort());
  expect(entries(join(state.stateDir, "vms"))).toEqual(vms.map(({ vmId }) => vmId).sort());
  expect(entries(state.runtimeDir)).toHaveLength(running.length);
  const { onDisk, onRecord } = captures(state);
  expect(onDisk).toEqual(onRecord);
  return vms;
}

/** Kills a program so long after it has claimed the VM for what it was told to do. */
async function killWhile(transition: string, ms: number, begin: (program: Program) => Promise<unknown>) {
  const program = await Program.start();
  await program.call("list");
  const ended = begin(program).then(
    () => true,
    () => true,
  );
  const claimed = () =>
    withDatabase(
      state.databasePath,
      (db) => db.prepare("SELECT 1 FROM vms WHERE transition = ?").all(transition).length > 0,
    );
  const isOver = await Promise.race([
    ended,
    (async () => {
      while (!claimed()) await pause(2);
      return false;
    })(),
  ]);
  if (!isOver) await pause(ms);
  await program.kill();
}

describe("a program killed while it copies", () => {
  let vm: Vm;

  beforeAll(async () => {
    vm = await SmolVM.create(state.config({ vmId: "copied" }));
    await furnish(vm, "before");
  });

  afterAll(() => vm.delete());

  // After a failure the next test finds what it expects.
  afterEach(async () => {
    await using manager = new VmManager();
    for (const { vmId } of await manager.list()) if (vmId !== "copied") await manager.delete(vmId);
    for (const { id } of await manager.listSnapshots()) await manager.deleteSnapshot(id);
  });

  /** It runs, as it ran before; only how many copies there are may differ. */
  async function expectGoingOn() {
    const vms = await expectAgreement();
    expect(vms.find(({ vmId }) => vmId === "copied")).toMatchObject({ status: "running", failure: null });
    const before = (await counter(vm))!;
    expect(await marks(vm)).toEqual(["before", "before", "before"]);
    await expectToCount(vm, before);
    expect(processesAbout(`ramcopy-amd64\0--pid\0${(await vm.info()).pid}\0`)).toEqual([]);
    return vms;
  }

  it.each(MOMENTS)("%i ms into a snapshot", async (ms) => {
    await killWhile("capturing", ms, (program) => program.call("snapshot", "copied", { name: "cut" }));
    await expectGoingOn();
    const kept = await SmolVM.snapshots.list();
    expect(captures(state).onRecord).toEqual(kept.map(({ id }) => id));
    for (const { id } of kept) {
      await using restored = await SmolVM.fromSnapshot(id);
      expect(await marks(restored)).toEqual(["before", "before", "before"]);
      await restored.delete();
    }
    // Its name is free, or goes with it; and what was cut short does not stand in the way of a new one.
    if (kept.length === 0) expect((await vm.snapshot({ name: "cut" })).name).toBe("cut");
  });

  it("in the moment in which the machine stands still, and nobody looks for a while: its clock is right again", async () => {
    const program = await Program.start();
    const { pid } = program;
    const { startTime, bootId } = (await identifyProcess(pid))!;
    await vm.pause();
    await program.kill();
    withDatabase(state.databasePath, (db) =>
      db
        .prepare(
          "UPDATE vms SET status = 'running', transition = 'capturing', mover_pid = ?, mover_start = ?, mover_boot = ?",
        )
        .run(pid, startTime, bootId),
    );
    await pause(1_000);
    await expectGoingOn();
    await expectRightClock(vm);
  });

  it.each([...MOMENTS, 300])("%i ms into a fork", async (ms) => {
    await killWhile("capturing", ms, (program) => program.call("fork", "copied", { count: 3 }));
    const vms = await expectGoingOn();
    const children = vms.filter(({ vmId }) => vmId !== "copied");
    for (const { vmId, status } of children) {
      expect(status).toBe("running");
      await using child = await SmolVM.fromId(vmId);
      expect(await marks(child)).toEqual(["before", "before", "before"]);
      await child.delete();
    }
    expect(captures(state)).toEqual({ onDisk: [], onRecord: [] });
  });

  it.each([0, 45, 100])("%i ms into a checkpoint", async (ms) => {
    const before = (await vm.checkpoints()).length;
    await killWhile("capturing", ms, (program) => program.call("checkpoint", "copied"));
    await expectGoingOn();
    const now = await vm.checkpoints();
    expect(now.length - before).toBeLessThanOrEqual(1);
    expect(captures(state).onRecord).toEqual(now.map(({ id }) => id).sort());
  });

  it("into any of it, of a machine that was paused: it stays paused", async () => {
    await vm.pause();
    await killWhile("capturing", 30, (program) => program.call("snapshot", "copied"));
    await expectAgreement();
    expect((await vm.info()).status).toBe("paused");
    await vm.resume();
    await expectGoingOn();
  });
});

describe("a program killed while it takes a machine back", () => {
  it.each([0, 30, 70, 130])("%i ms into that", async (ms) => {
    await using vm = await SmolVM.create(state.config({ vmId: "undone" }));
    await furnish(vm, "before");
    const { id } = await vm.checkpoint();
    await vm.run("for f in /root/disk /root/cached /dev/shm/memory; do echo after > $f; done; sync");
    await killWhile("rewinding", ms, (program) => program.call("rewind", "undone", id));
    const [info] = await expectAgreement();
    if (info!.status === "error") {
      expect(info!.failure).toMatchObject({ code: "INTERRUPTED" });
      expect(info!.pid).toBeNull();
      // The checkpoint is there still, and the disk boots: it is that of before or of after, never something else.
      await vm.start();
      const [disk] = (await vm.run("cat /root/disk")).output.split("\n");
      expect(["before", "after"]).toContain(disk);
    } else {
      expect(info!.status).toBe("running");
      const [first] = await marks(vm);
      expect(await marks(vm)).toEqual([first, first, first]);
    }
    await vm.rewind(id);
    expect(await marks(vm)).toEqual(["before", "before", "before"]);
    const files = readdirSync(join(state.stateDir, "vms", "undone")).filter((name) => name.endsWith(".qcow2"));
    expect(files).toHaveLength(1);
  });
});

describe("two programs", () => {
  it("fork, snapshot and stop one machine at once: one after the other, and each is told what came of it", async () => {
    await using vm = await SmolVM.create(state.config());
    await furnish(vm, "before");
    await using a = await Program.start();
    await using b = await Program.start();
    const both = await Promise.all([a, b].map((program) => program.call("fork", vm.vmId, { count: 2 })));
    const children = both.flat().map((child) => (child.ok ? child.vmId : expect.fail(child.error.message)));
    expect(new Set(children).size).toBe(4);
    for (const id of children)
      expect((await a.call("run", id, "hostname; cat /dev/shm/memory")).output).toBe(`${id}\nbefore`);
    await Promise.all([a.call("deleteMany", children.slice(0, 2)), b.call("deleteMany", children.slice(2))]);
    expect(captures(state)).toEqual({ onDisk: [], onRecord: [] });

    const racing = await Promise.allSettled([
      a.call("fork", vm.vmId),
      b.call("stop", vm.vmId),
      a.call("snapshot", vm.vmId),
    ]);
    for (const outcome of racing) {
      if (outcome.status === "rejected")
        expect(outcome.reason).toMatchObject({ code: "INVALID_STATE", details: { helps: "start()" } });
    }
    expect(racing[1]!.status).toBe("fulfilled");
    expect((await vm.info()).status).toBe("stopped");
    await vm.start();
    const last = await Promise.allSettled([a.call("fork", vm.vmId, { count: 2 }), b.call("delete", vm.vmId)]);
    expect(last[1]!.status).toBe("fulfilled");
    const [forked] = last;
    if (forked!.status === "rejected") expect(forked!.reason).toMatchObject({ code: "VM_NOT_FOUND" });
    await using manager = new VmManager();
    for (const { vmId, status } of await manager.list()) {
      // Their parent is gone; they are whole.
      expect([status, (await manager.run(vmId, "hostname")).output]).toEqual(["running", vmId]);
      await manager.delete(vmId);
    }
    for (const { id } of await manager.listSnapshots()) await manager.deleteSnapshot(id);
  });
});

function entries(path: string): string[] {
  return existsSync(path) ? readdirSync(path).sort() : [];
}
