import { existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import { captureFiles } from "./capture-spec.js";
import type { VmContext } from "./context.js";
import { deleteSnapshot, findSnapshot, listSnapshots, restoreSnapshot, snapshotVm } from "./snapshots.js";
import { fakeContext, recordCapture, recordVm, specOf } from "./testing/fake-context.js";

let ctx: VmContext;

beforeEach(() => {
  ctx = fakeContext();
});

test("only complete snapshots are listed, the oldest first", async () => {
  await recordCapture(ctx, { id: "snap-2", kind: "snapshot", name: "named" });
  await new Promise((done) => setTimeout(done, 2));
  await recordCapture(ctx, { id: "snap-1", kind: "snapshot" });
  await recordCapture(ctx, { id: "snap-3", kind: "snapshot", isComplete: false });
  await recordCapture(ctx, { id: "base-1", kind: "base" });
  await recordCapture(ctx, { id: "checkpoint-1", kind: "checkpoint" });
  expect(listSnapshots(ctx).map(({ id, name }) => [id, name])).toEqual([
    ["snap-2", "named"],
    ["snap-1", null],
  ]);
  expect(findSnapshot(ctx, "named")).toEqual({
    id: "snap-2",
    name: "named",
    vmId: "a1",
    vcpuCount: 2,
    memSizeMib: 512,
    diskSizeMib: 1024,
    image: { name: "debian", digest: "d".repeat(64) },
    network: "none",
    backend: "qemu",
    allocatedBytes: 4096,
    createdAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT/),
  });
});

describe("deleting", () => {
  test("removes files and record, and the bases that only it stood on", async () => {
    const below = await recordCapture(ctx, { id: "base-1", kind: "base" });
    const layers = [captureFiles(below).layerPath];
    const directory = await recordCapture(ctx, { id: "snap-1", kind: "snapshot", name: "one", layers });
    await deleteSnapshot(ctx, "one");
    expect([existsSync(directory), existsSync(below), ctx.store.captures.list()]).toEqual([false, false, []]);
    await expect(deleteSnapshot(ctx, "one")).rejects.toMatchObject({ code: "SNAPSHOT_NOT_FOUND" });
  });

  test("is refused while something stands on it, naming that", async () => {
    const directory = await recordCapture(ctx, { id: "snap-1", kind: "snapshot" });
    const { layerPath, memoryPath } = captureFiles(directory);
    await recordCapture(ctx, { id: "snap-2", kind: "snapshot", layers: [layerPath] });
    const disk = { ...specOf(ctx, "by-disk").disk, layers: [layerPath] } as ReturnType<typeof specOf>["disk"];
    await recordVm(ctx, { id: "by-disk", status: "stopped", spec: { disk } });
    await recordVm(ctx, { id: "by-memory", status: "stopped", spec: { memoryBasePath: memoryPath } });
    await expect(deleteSnapshot(ctx, "snap-1")).rejects.toMatchObject({
      code: "BUSY",
      message: expect.stringContaining('VM "by-disk", VM "by-memory", "snap-2"'),
      details: { snapshot: "snap-1", vms: ["by-disk", "by-memory"], captures: ["snap-2"] },
    });
    expect(ctx.store.captures.find("snap-1")).toMatchObject({ kind: "snapshot" });
    expect(existsSync(directory)).toBe(true);
  });

  test("is refused while a kept disk stands on it, until that is gone", async () => {
    const directory = await recordCapture(ctx, { id: "snap-1", kind: "snapshot" });
    const path = join(ctx.paths.stateDir, "retained", "a1.qcow2");
    mkdirSync(dirname(path));
    writeFileSync(path, "a disk");
    ctx.store.retainedDisks.add({ path, basePaths: [captureFiles(directory).layerPath, "/images/rootfs.ext4"] });
    await expect(deleteSnapshot(ctx, "snap-1")).rejects.toMatchObject({
      code: "BUSY",
      message: expect.stringContaining("a kept disk stands on it"),
    });
    rmSync(path);
    await deleteSnapshot(ctx, "snap-1");
  });

  test("does not take a neighbour whose id begins alike for something that stands on it", async () => {
    await recordCapture(ctx, { id: "snap-1", kind: "snapshot" });
    const neighbour = await recordCapture(ctx, { id: "snap-11", kind: "snapshot" });
    await recordVm(ctx, { status: "stopped", spec: { memoryBasePath: captureFiles(neighbour).memoryPath } });
    await deleteSnapshot(ctx, "snap-1");
    expect(existsSync(neighbour)).toBe(true);
  });
});

describe("before anything happens", () => {
  test("a name that cannot be one, or is taken, is refused", async () => {
    await recordVm(ctx, { status: "stopped" });
    await expect(snapshotVm(ctx, "a1", { name: "../x" })).rejects.toMatchObject({
      code: "INVALID_CONFIG",
      details: { field: "name" },
    });
    await expect(snapshotVm(ctx, "nobody")).rejects.toMatchObject({ code: "VM_NOT_FOUND" });
    await expect(snapshotVm(ctx, "a1")).rejects.toMatchObject({ code: "INVALID_STATE", details: { helps: "start()" } });
    expect(ctx.store.vms.find("a1")?.move).toBeUndefined();
  });

  test("a snapshot without its manifest starts nothing", async () => {
    await recordCapture(ctx, { id: "snap-1", kind: "snapshot" });
    await expect(restoreSnapshot(ctx, "snap-1", {})).rejects.toMatchObject({ code: "SNAPSHOT_FAILED" });
    await expect(restoreSnapshot(ctx, "snap-1", { vcpuCount: 4 })).rejects.toMatchObject({ code: "INVALID_CONFIG" });
    await expect(restoreSnapshot(ctx, "/etc", {})).rejects.toMatchObject({ code: "INVALID_CONFIG" });
    expect(ctx.store.vms.list()).toEqual([]);
  });
});
