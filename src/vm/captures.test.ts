import { existsSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import { selfIdentity } from "../host/process-identity.js";
import { deadProcess } from "../storage/testing/scratch-store.js";
import { captureFiles } from "./capture-spec.js";
import { checkCaptureId, findCapture, isStoodOn, sweepCaptures } from "./captures.js";
import type { VmContext } from "./context.js";
import { reconcile } from "./reconcile.js";
import { fakeContext, recordCapture, recordVm, specOf } from "./testing/fake-context.js";

let ctx: VmContext;

beforeEach(() => {
  ctx = fakeContext();
});

/** A VM whose disk lies on captured layers. */
async function vmOn(id: string, ...directories: readonly string[]) {
  const layers = directories.map((directory) => captureFiles(directory).layerPath);
  const disk = { ...specOf(ctx, id).disk, layers } as ReturnType<typeof specOf>["disk"];
  return recordVm(ctx, { id, status: "stopped", spec: { disk } });
}

const ids = () =>
  ctx.store.captures
    .list()
    .map(({ id }) => id)
    .sort();

describe("an id", () => {
  test.each(["a", "snap-00000000", "a_b-c", "7", "x".repeat(64)])("%j can be one", (id) => {
    expect(() => checkCaptureId(id, "snapshot")).not.toThrow();
  });

  test.each([
    "",
    ".",
    "..",
    "../x",
    "/etc",
    "a/b",
    "a\\b",
    "A",
    "-a",
    "a-",
    "a\n",
    "a\0b",
    "x".repeat(65),
    7,
    null,
    undefined,
    {},
  ])("%j cannot, and is refused by the caller's name for it", (id) => {
    expect(() => checkCaptureId(id, "checkpoint")).toThrow(
      expect.objectContaining({ code: "INVALID_CONFIG", details: expect.objectContaining({ field: "checkpoint" }) }),
    );
  });
});

describe("finding", () => {
  test("goes by id or name, by kind, and finds only what is complete", async () => {
    await recordCapture(ctx, { id: "snap-1", kind: "snapshot", name: "first" });
    await recordCapture(ctx, { id: "checkpoint-1", kind: "checkpoint" });
    await recordCapture(ctx, { id: "snap-2", kind: "snapshot", name: "half", isComplete: false });
    expect(findCapture(ctx, "snap-1", "snapshot").id).toBe("snap-1");
    expect(findCapture(ctx, "first", "snapshot").id).toBe("snap-1");
    expect(findCapture(ctx, "checkpoint-1", "checkpoint").id).toBe("checkpoint-1");
    for (const [id, kind] of [
      ["checkpoint-1", "snapshot"],
      ["snap-1", "checkpoint"],
      ["snap-2", "snapshot"],
      ["half", "snapshot"],
      ["nobody", "snapshot"],
    ] as const) {
      expect(() => findCapture(ctx, id, kind)).toThrow(
        expect.objectContaining({ code: "SNAPSHOT_NOT_FOUND", details: { snapshot: id } }),
      );
    }
  });
});

describe("a sweep", () => {
  test("removes what was never finished, and leaves what a living process makes", async () => {
    const self = await selfIdentity();
    const dead = await recordCapture(ctx, {
      id: "snap-dead",
      kind: "snapshot",
      isComplete: false,
      maker: deadProcess(),
    });
    const made = await recordCapture(ctx, { id: "snap-made", kind: "snapshot", isComplete: false, maker: self });
    const { removed, failed } = await sweepCaptures(ctx);
    expect([removed.map(({ id }) => id), failed]).toEqual([["snap-dead"], []]);
    expect([existsSync(dead), existsSync(made), ids()]).toEqual([false, true, ["snap-made"]]);
  });

  test("keeps snapshots and checkpoints that nothing stands on, also when their maker died before it let go", async () => {
    await recordCapture(ctx, { id: "snap-1", kind: "snapshot", maker: deadProcess() });
    await recordCapture(ctx, { id: "checkpoint-1", kind: "checkpoint" });
    expect(await sweepCaptures(ctx)).toEqual({ removed: [], failed: [] });
    expect(ids()).toEqual(["checkpoint-1", "snap-1"]);
    expect(ctx.store.captures.find("snap-1")?.maker).toBeUndefined();
  });

  test("keeps a base as long as something stands on it or a living process holds it", async () => {
    const held = await recordCapture(ctx, { id: "base-held", kind: "base", maker: await selfIdentity() });
    const used = await recordCapture(ctx, { id: "base-used", kind: "base" });
    await recordCapture(ctx, { id: "base-free", kind: "base", maker: deadProcess() });
    const vm = await vmOn("child", used);
    expect((await sweepCaptures(ctx)).removed.map(({ id }) => id)).toEqual(["base-free"]);
    expect([existsSync(held), existsSync(used)]).toEqual([true, true]);
    ctx.store.captures.release("base-held");
    ctx.store.resources.forget("child", { kind: "directory", name: join(ctx.paths.stateDir, "vms", "child") });
    ctx.store.vms.remove(vm.id);
    expect((await sweepCaptures(ctx)).removed.map(({ id }) => id).sort()).toEqual(["base-held", "base-used"]);
  });

  test("removes a whole line of bases at once when nothing stands on the youngest", async () => {
    const layers: string[] = [];
    for (const id of ["base-1", "base-2", "base-3"]) {
      const directory = await recordCapture(ctx, { id, kind: "base", layers: [...layers] });
      layers.unshift(captureFiles(directory).layerPath);
      await new Promise((done) => setTimeout(done, 2)); // Each is younger than the one below it.
    }
    const top = ctx.store.captures.find("base-3")!;
    expect([isStoodOn(ctx, ctx.store.captures.find("base-1")!), isStoodOn(ctx, top)]).toEqual([true, false]);
    expect((await sweepCaptures(ctx)).removed.map(({ id }) => id)).toEqual(["base-3", "base-2", "base-1"]);
  });

  test("is part of reconcile, which says what went and why", async () => {
    await recordCapture(ctx, { id: "snap-dead", kind: "snapshot", isComplete: false, maker: deadProcess() });
    await recordCapture(ctx, { id: "base-free", kind: "base" });
    const { cleaned, failed } = await reconcile(ctx);
    expect(failed).toEqual([]);
    expect(new Map(cleaned.map(({ subject, what }) => [subject, what]))).toEqual(
      new Map([
        ["snap-dead", "was never finished"],
        ["base-free", "nothing stood on it any more"],
      ]),
    );
    expect((await reconcile(ctx)).cleaned).toEqual([]);
  });
});
