import { existsSync } from "node:fs";
import { beforeEach, describe, expect, test } from "vitest";
import { captureFiles } from "./capture-spec.js";
import { checkpointVm, listCheckpoints, rewindVm } from "./checkpoints.js";
import type { VmContext } from "./context.js";
import { deleteVm } from "./delete-vm.js";
import { fakeContext, recordCapture, recordVm } from "./testing/fake-context.js";

let ctx: VmContext;

beforeEach(async () => {
  ctx = fakeContext();
  await recordVm(ctx, { id: "a1", status: "stopped" });
  await recordVm(ctx, { id: "b2", status: "stopped" });
});

test("those of a VM are listed, complete ones only, the oldest first", async () => {
  for (const id of ["checkpoint-2", "checkpoint-1"]) {
    await recordCapture(ctx, { id, kind: "checkpoint" });
    await new Promise((done) => setTimeout(done, 2));
  }
  await recordCapture(ctx, { id: "checkpoint-3", kind: "checkpoint", vmId: "b2" });
  await recordCapture(ctx, { id: "checkpoint-4", kind: "checkpoint", isComplete: false });
  await recordCapture(ctx, { id: "snap-1", kind: "snapshot" });
  expect(listCheckpoints(ctx, "a1").map(({ id }) => id)).toEqual(["checkpoint-2", "checkpoint-1"]);
  expect(listCheckpoints(ctx, "b2")).toMatchObject([{ id: "checkpoint-3", vmId: "b2", allocatedBytes: 4096 }]);
});

test("none is made of a VM that does not run", async () => {
  await expect(checkpointVm(ctx, "a1")).rejects.toMatchObject({ code: "INVALID_STATE", details: { helps: "start()" } });
  expect(ctx.store.captures.list()).toEqual([]);
});

describe("going back", () => {
  test.each([
    ["checkpoint-b", "SNAPSHOT_NOT_FOUND"],
    ["snap-1", "SNAPSHOT_NOT_FOUND"],
    ["base-1", "SNAPSHOT_NOT_FOUND"],
    ["never", "SNAPSHOT_NOT_FOUND"],
    ["../x", "INVALID_CONFIG"],
    [undefined, "INVALID_CONFIG"],
  ])("to %j is refused, and the VM is untouched", async (id, code) => {
    await recordCapture(ctx, { id: "checkpoint-b", kind: "checkpoint", vmId: "b2" });
    await recordCapture(ctx, { id: "snap-1", kind: "snapshot" });
    await recordCapture(ctx, { id: "base-1", kind: "base", vmId: "b2" });
    const before = ctx.store.vms.find("a1")!;
    await expect(rewindVm(ctx, "a1", id as string)).rejects.toMatchObject({ code });
    const after = ctx.store.vms.find("a1");
    expect(after).toEqual({ ...before, updatedAtMs: after?.updatedAtMs });
  });

  test("is not for a VM that was never started", async () => {
    await recordVm(ctx, { id: "new", status: "created" });
    const refused = rewindVm(ctx, "new", "checkpoint-1");
    await expect(refused).rejects.toMatchObject({ code: "INVALID_STATE", details: { helps: "start()" } });
  });
});

test("they go with their VM, but for what something else stands on", async () => {
  const gone = await recordCapture(ctx, { id: "checkpoint-1", kind: "checkpoint" });
  const needed = await recordCapture(ctx, { id: "checkpoint-2", kind: "checkpoint" });
  const others = await recordCapture(ctx, { id: "checkpoint-3", kind: "checkpoint", vmId: "b2" });
  await recordCapture(ctx, { id: "snap-1", kind: "snapshot", layers: [captureFiles(needed).layerPath] });
  await deleteVm(ctx, "a1");
  expect([gone, needed, others].map(existsSync)).toEqual([false, true, true]);
  expect(ctx.store.captures.find("checkpoint-2")?.kind).toBe("base");
  expect(listCheckpoints(ctx, "b2")).toHaveLength(1);
});
