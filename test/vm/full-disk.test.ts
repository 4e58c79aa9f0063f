// A state directory on a full disk: a clear error, and nothing of the attempt left. The test mounts a small disk.

import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statfsSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { SmolVM, VmManager } from "../support/smolvm.js";
import { deleteAll, expectNothingLeft, testState } from "../support/state.js";
import { rejection } from "../support/wait.js";

const canMount = process.platform === "linux" && process.getuid?.() === 0;
if (!canMount)
  console.log(`gate: ${process.platform === "linux" ? "root" : "linux"}: the test mounts a small file system`);

const DISK_BYTES = 2 * 1024 * 1024;
const { config } = testState();

describe.skipIf(!canMount)("a full disk", () => {
  let disk: string;
  let stateDir: string;
  let count = 0;

  beforeAll(() => {
    disk = mkdtempSync(join(tmpdir(), "smolvm-full-"));
    execFileSync("mount", ["-t", "tmpfs", "-o", `size=${DISK_BYTES}`, "smolvm-test", disk]);
  });

  beforeEach(() => {
    count += 1;
    stateDir = join(disk, `state${count}`);
  });

  afterEach(async () => {
    empty();
    try {
      await expectNothingLeft(stateDir);
    } finally {
      await deleteAll(stateDir);
      rmSync(stateDir, { recursive: true, force: true });
    }
  });

  afterAll(() => {
    // Lazily: SQLite's files stay open until its statements have been collected.
    execFileSync("umount", ["--lazy", disk]);
    rmSync(disk, { recursive: true });
  });

  /** Leaves this much room, in bytes. */
  function fill(roomBytes: number): void {
    const { bavail, bsize } = statfsSync(disk);
    writeFileSync(join(disk, "ballast"), Buffer.alloc(Math.max(0, bavail * bsize - roomBytes)));
  }

  function empty(): void {
    rmSync(join(disk, "ballast"), { force: true });
  }

  it("fails to start a VM whose disk finds no room", async () => {
    await using manager = new VmManager({ stateDir });
    await manager.delete(await manager.create(config(), { start: true }));
    // Room for the record, not for the disk's 256 KiB.
    fill(160 * 1024);
    expect(await rejection(manager.create(config(), { start: true }))).toMatchObject({ code: "STORAGE_FAILED" });
    expect(readdirSync(join(stateDir, "vms"))).toEqual([]);
    empty();
    const id = await manager.create(config());
    // The disk is made by the first start; one that fails can be repeated.
    fill(160 * 1024);
    expect(await rejection(manager.start(id))).toMatchObject({ code: "STORAGE_FAILED" });
    empty();
    await manager.start(id);
    expect((await manager.run(id, "echo up")).output).toBe("up");
    await manager.delete(id);
  });

  it("fails to create a VM when the database finds no room", async () => {
    await using manager = new VmManager({ stateDir });
    await manager.delete(await manager.create(config()));
    // The write-ahead log is reused up to its size so far, so not each attempt needs room.
    fill(0);
    const errors: unknown[] = [];
    for (let n = 0; n < 10; n++) errors.push(await rejection(manager.create(config())));
    for (const error of errors) expect(error).toMatchObject({ code: "STORAGE_FAILED" });
    empty();
    // What could not even be forgotten is on record as failed, and can be deleted.
    for (const { vmId, status, pid } of await manager.list()) {
      expect({ status, pid }).toEqual({ status: "error", pid: null });
      await manager.delete(vmId);
    }
    await manager.delete(await manager.create(config()));
  });

  it("fails to open a state directory there", async () => {
    fill(0);
    expect(await rejection((async () => new VmManager({ stateDir }))())).toMatchObject({ code: "STORAGE_FAILED" });
    expect(await rejection((async () => SmolVM.create({ ...config(), stateDir }))())).toMatchObject({
      code: "STORAGE_FAILED",
    });
    empty();
    mkdirSync(stateDir, { recursive: true });
    await using manager = new VmManager({ stateDir });
    expect(await manager.list()).toEqual([]);
  });

  it("leaves a running VM usable, and deletes it when there is room again", async () => {
    await using manager = new VmManager({ stateDir });
    const id = await manager.create(config());
    await manager.start(id);
    fill(0);
    expect((await manager.run(id, "echo up")).output).toBe("up");
    const error = await manager.delete(id).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    // Whether the database needs room for this depends on the size of its log so far.
    if (error !== undefined) {
      expect(error).toMatchObject({ code: "STORAGE_FAILED" });
      empty();
      expect((await manager.run(id, "echo still up")).output).toBe("still up");
      await manager.delete(id);
    }
  });
});
