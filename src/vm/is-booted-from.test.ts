import { existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import { scratchDirectory } from "../storage/testing/scratch-store.js";
import { captureFiles } from "./capture-spec.js";
import type { VmContext } from "./context.js";
import { filesOf, isBootedFrom, isUsedBy } from "./is-booted-from.js";
import { fakeContext, recordCapture, recordVm, specOf } from "./testing/fake-context.js";

const TEMPLATE = "/cache/templates/t1";

let ctx: VmContext;

beforeEach(() => {
  ctx = fakeContext();
});

/** A disk on a template's layer. */
const onTemplate = (id: string) => {
  const disk = { ...specOf(ctx, id).disk, layers: [`${TEMPLATE}/disk.qcow2`] } as ReturnType<typeof specOf>["disk"];
  return { disk, memoryBasePath: `${TEMPLATE}/memory` };
};

test("a VM needs kernel, initrd, all of its disk's layers and what its memory was mapped from", () => {
  expect(filesOf(specOf(ctx, "a1", onTemplate("a1")))).toEqual([
    "/images/vmlinux",
    "/images/initramfs.cpio",
    `${TEMPLATE}/disk.qcow2`,
    "/images/rootfs.ext4",
    `${TEMPLATE}/memory`,
  ]);
  const shared = { mode: "shared", path: "/my/disk", format: "raw" } as const;
  expect(filesOf(specOf(ctx, "a1", { disk: shared }))).toContain("/my/disk");
});

describe("a file is in use", () => {
  test("by a VM: the file itself and the directories around it, but no neighbour of a like name", async () => {
    await recordVm(ctx, { status: "stopped", spec: onTemplate("a1") });
    for (const path of [TEMPLATE, "/cache/templates", `${TEMPLATE}/memory`, "/images/rootfs.ext4"]) {
      expect([path, isBootedFrom(ctx, path)]).toEqual([path, true]);
    }
    for (const path of ["/cache/templates/t", "/cache/templates/t10", `${TEMPLATE}/devices`, "/cache/temp"]) {
      expect([path, isBootedFrom(ctx, path)]).toEqual([path, false]);
    }
  });

  test("by a capture whose VM is gone, unless it is the one that is asked about", async () => {
    const directory = await recordCapture(ctx, { id: "snap-1", kind: "snapshot", layers: [`${TEMPLATE}/disk.qcow2`] });
    expect(isBootedFrom(ctx, TEMPLATE)).toBe(true);
    expect(isUsedBy(ctx.store, directory)).toBe(true);
    expect(isUsedBy(ctx.store, directory, "snap-1")).toBe(false);
  });

  test("by a kept disk, until that is removed", async () => {
    const path = join(ctx.paths.stateDir, "retained", "a1.qcow2");
    mkdirSync(dirname(path));
    writeFileSync(path, "a disk");
    const base = captureFiles("/state/captures/base-1").layerPath;
    ctx.store.retainedDisks.add({ path, basePaths: [base] });
    expect(isUsedBy(ctx.store, dirname(base))).toBe(true);
    rmSync(path);
    expect(isUsedBy(ctx.store, dirname(base))).toBe(false);
    expect(ctx.store.retainedDisks.list()).toEqual([]);
  });

  test("by a VM or capture of another state directory on the same cache, until that is gone", async () => {
    const elsewhere = scratchDirectory();
    const other = fakeContext(elsewhere);
    await recordCapture(other, { id: "snap-1", kind: "snapshot", layers: [`${TEMPLATE}/disk.qcow2`] });
    const cache = ctx.cache();
    const shared: VmContext = { ...ctx, cache: () => cache };
    expect(isBootedFrom(shared, TEMPLATE)).toBe(false);
    cache.addTenant(elsewhere);
    expect(isBootedFrom(shared, TEMPLATE)).toBe(true);
    other.store.captures.remove("snap-1");
    expect(isBootedFrom(shared, TEMPLATE)).toBe(false);
    const gone = join(scratchDirectory(), "never");
    cache.addTenant(gone);
    expect(isBootedFrom(shared, TEMPLATE)).toBe(false);
    expect([existsSync(gone), cache.tenants().includes(gone)]).toEqual([false, false]);
  });
});
