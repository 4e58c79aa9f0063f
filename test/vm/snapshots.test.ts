// Snapshots of machines that run: what is in them, what happens to the original, and what can be done with them.

import { existsSync, readdirSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  bootOf,
  captures,
  counter,
  expectNoCapturesAtTheEnd,
  expectRightClock,
  expectToCount,
  furnish,
  marks,
  served,
} from "../support/copies.js";
import { Program } from "../support/program.js";
import { SmolVM, type SnapshotInfo, type Vm, VmManager } from "../support/smolvm.js";
import { expectNothingLeft, testState } from "../support/state.js";
import { rejection } from "../support/wait.js";

const state = testState();
expectNoCapturesAtTheEnd(state);

describe("a snapshot of a running VM", () => {
  let original: Vm;
  let boot: string;
  let taken: SnapshotInfo;
  let atThatTime: NonNullable<Awaited<ReturnType<typeof counter>>>;

  beforeAll(async () => {
    original = await SmolVM.create(state.config({ vmId: "original", envVars: { GREETING: "hello", WHO: "original" } }));
    await furnish(original, "before");
    boot = await bootOf(original);
    atThatTime = (await counter(original))!;
    taken = await original.snapshot({ name: "first" });
  });

  afterAll(async () => {
    await original.delete();
    for (const { id } of await SmolVM.snapshots.list()) await SmolVM.snapshots.delete(id);
    await expectNothingLeft(state.stateDir);
  });

  it("tells what it is", async () => {
    expect(taken).toMatchObject({ name: "first", vmId: "original", vcpuCount: 2, memSizeMib: 256, network: "none" });
    expect(taken.id).toMatch(/^snap-[0-9a-f]{8}$/);
    expect(taken.image?.name).toBe("debian");
    expect(await SmolVM.snapshots.list()).toEqual([taken]);
    expect(await SmolVM.snapshots.get("first")).toEqual(taken);
    expect(await SmolVM.snapshots.get(taken.id)).toEqual(taken);
  });

  it("has files that only this user can read, and counts what they occupy", () => {
    const directory = join(state.stateDir, "captures", taken.id);
    expect(statSync(directory).mode & 0o777).toBe(0o700);
    const files = readdirSync(directory).map((name) => statSync(join(directory, name)));
    for (const file of files) expect(file.mode & 0o077).toBe(0);
    const allocated = files.reduce((sum, { blocks }) => sum + blocks * 512, 0);
    expect(Math.abs(allocated - taken.allocatedBytes)).toBeLessThan(64 * 1024);
    // Memory is a sparse file: what the guest never used is not on disk.
    expect(taken.allocatedBytes).toBeLessThan(256 * 1024 * 1024);
  });

  it("leaves the original as it was: same boot, its process counts on, its clock is right", async () => {
    expect([original.status, await bootOf(original)]).toEqual(["running", boot]);
    expect(await marks(original)).toEqual(["before", "before", "before"]);
    await expectToCount(original, atThatTime);
    for (let n = 0; n < 4; n++) await SmolVM.snapshots.delete((await original.snapshot()).id);
    await expectRightClock(original);
  });

  it("is gone on from twice at once, each for itself, while the original does something else", async () => {
    await original.run("for f in /root/disk /root/cached /dev/shm/memory; do echo after > $f; done; sync");
    const [one, two] = await Promise.all([
      SmolVM.fromSnapshot("first", { vmId: "one", envVars: { WHO: "one" } }),
      SmolVM.fromSnapshot(taken.id, { vmId: "two" }),
    ]);
    for (const vm of [one, two]) {
      expect(await marks(vm)).toEqual(["before", "before", "before"]);
      await expectToCount(vm, atThatTime);
      expect((await vm.info()).startedFrom).toEqual({ kind: "snapshot", id: taken.id });
    }
    const own =
      "hostname; echo $GREETING $WHO; for f in /root/disk /root/cached /dev/shm/memory; do hostname > $f; done; sync";
    expect((await one.run(own)).output).toBe("one\nhello one");
    expect((await two.run(own)).output).toBe("two\nhello original");
    // Not what their memory still has of it: what is on each one's disk.
    for (const vm of [original, one, two]) await vm.run("echo 3 > /proc/sys/vm/drop_caches");
    expect(await marks(original)).toEqual(["after", "after", "after"]);
    expect(await marks(one)).toEqual(["one", "one", "one"]);
    expect(await marks(two)).toEqual(["two", "two", "two"]);
    await one.delete();
    await two.stop();
    await two.start();
    expect((await two.run("hostname; cat /root/disk /root/cached")).output).toBe("two\ntwo\ntwo");
    expect(await counter(two)).toBeUndefined(); // It booted: what was in memory is gone.
    await two.delete();
  });

  it("is deleted only when nothing stands on it, and then all of it", async () => {
    const vm = await SmolVM.fromSnapshot("first");
    const upper = await vm.snapshot({ name: "upper" });
    const busy = await rejection(SmolVM.snapshots.delete("first"));
    expect(busy).toMatchObject({ code: "BUSY", details: { snapshot: taken.id, vms: [vm.vmId], captures: [upper.id] } });
    await vm.delete();
    expect(await rejection(SmolVM.snapshots.delete(taken.id))).toMatchObject({
      code: "BUSY",
      details: { vms: [], captures: [upper.id] },
    });
    {
      await using restored = await SmolVM.fromSnapshot("upper");
      expect(await marks(restored)).toEqual(["before", "before", "before"]);
      // A VM that was booted from its disk alone needs the layers below all the same.
      await restored.stop();
      expect(await rejection(SmolVM.snapshots.delete("upper"))).toMatchObject({ details: { vms: [restored.vmId] } });
    }
    await SmolVM.snapshots.delete("upper");
    expect(existsSync(join(state.stateDir, "captures", upper.id))).toBe(false);
    expect(captures(state)).toEqual({ onDisk: [taken.id], onRecord: [taken.id] });
    expect(await rejection(SmolVM.snapshots.delete("upper"))).toMatchObject({ code: "SNAPSHOT_NOT_FOUND" });
  });

  it("outlives the original and the program that made it", async () => {
    const program = await Program.start();
    const later = await program.call("snapshot", "original", { name: "later" });
    await program.end();
    await original.delete();
    await using vm = await SmolVM.fromSnapshot("first");
    await using other = await SmolVM.fromSnapshot(later.id);
    expect(await marks(vm)).toEqual(["before", "before", "before"]);
    expect(await marks(other)).toEqual(["after", "after", "after"]);
    expect(later.vmId).toBe("original");
  });
});

describe("a snapshot of a paused VM", () => {
  it("leaves it paused, and what goes on from it runs with the right time", async () => {
    await using vm = await SmolVM.create(state.config());
    await furnish(vm, "paused");
    await vm.pause();
    const { id } = await vm.snapshot();
    expect((await vm.info()).status).toBe("paused");
    await using restored = await SmolVM.fromSnapshot(id);
    expect(await marks(restored)).toEqual(["paused", "paused", "paused"]);
    await expectToCount(restored, (await counter(restored))!);
    await expectRightClock(restored);
    await vm.resume();
    await expectToCount(vm, (await counter(vm))!);
    await restored.delete();
    await SmolVM.snapshots.delete(id);
  });
});

describe("what a restored VM is given", () => {
  it("honours lifetime, ports and disk retention, and lets another program restore", async () => {
    await using vm = await SmolVM.create(state.config({ network: "user" }));
    const { id } = await vm.snapshot();
    const mortal = await Program.start();
    const mortalId = await mortal.call("restore", id, { lifetime: "process" });
    const keptId = await mortal.call("restore", id, { ports: [{ guest: 8000 }], retainDiskOnDelete: true });
    await mortal.kill();
    await using manager = new VmManager();
    expect((await manager.reconcile()).cleaned.map(({ subject }) => subject)).toContain(mortalId);
    expect(await rejection(SmolVM.fromId(mortalId))).toMatchObject({ code: "VM_NOT_FOUND" });
    const kept = await SmolVM.fromId(keptId);
    const { ports } = await kept.info();
    expect(ports).toEqual([{ guest: 8000, host: expect.any(Number), hostAddress: "127.0.0.1" }]);
    await kept.run(
      "echo through the port > /root/index.html; cd /root; setsid python3 -m http.server 8000 > /dev/null 2>&1 &",
      { orphans: "keep" },
    );
    expect(await served(ports[0]!.host)).toBe("through the port\n");
    const { retainedDiskPath } = await kept.delete();
    // The kept disk is a layer over the snapshot's.
    const error = await rejection(SmolVM.snapshots.delete(id));
    expect(error).toMatchObject({ code: "BUSY", details: { vms: [], captures: [] } });
    expect(error.message).toContain("kept disk");
    rmSync(retainedDiskPath!);
    await SmolVM.snapshots.delete(id);
  });
});
