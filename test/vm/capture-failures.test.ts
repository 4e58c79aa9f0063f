// Copies that fail while the program lives: the machine goes on as if nothing had been, and nothing is left of them.

import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, statfsSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
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
import { isSmolVMError, SmolVM, type Vm } from "../support/smolvm.js";
import { deleteAll, expectNothingLeft, processesAbout, testState } from "../support/state.js";
import { eventually, pause, rejection } from "../support/wait.js";

const canMount = process.platform === "linux" && process.getuid?.() === 0;
if (!canMount)
  console.log(`gate: ${process.platform === "linux" ? "root" : "linux"}: the test mounts a small file system`);

const state = testState();
expectNoCapturesAtTheEnd(state);

/** The machine answers, counts on, and nothing of a copy is left: no file, no row, no process. */
async function expectUntouched(vm: Vm, place: Parameters<typeof captures>[0] = state) {
  const before = (await counter(vm))!;
  expect(await vm.info()).toMatchObject({ status: "running", transition: null, failure: null });
  expect(await marks(vm)).toEqual(["before", "before", "before"]);
  await expectToCount(vm, before);
  expect(captures(place)).toEqual({ onDisk: [], onRecord: [] });
  expect(processesAbout(`ramcopy-amd64\0--pid\0${(await vm.info()).pid}\0`)).toEqual([]);
}

describe("a copy given up", () => {
  let vm: Vm;

  beforeAll(async () => {
    vm = await SmolVM.create(state.config());
    await furnish(vm, "before");
  });

  afterAll(() => vm.delete());

  it("by its signal, at any moment, leaves the machine running and no file", async () => {
    let aborted = 0;
    for (const ms of [0, 5, 15, 30, 50, 80, 120, 200]) {
      for (const copy of [
        (signal: AbortSignal) => vm.snapshot({ signal }).then(({ id }) => SmolVM.snapshots.delete(id)),
        (signal: AbortSignal) => vm.fork({ signal }).then(dismiss),
      ]) {
        const abort = new AbortController();
        const copying = copy(abort.signal);
        await pause(ms);
        abort.abort();
        await copying.catch((error: unknown) => {
          if (!isSmolVMError(error, "ABORTED")) throw error;
          aborted += 1;
        });
        expect(captures(state)).toEqual({ onDisk: [], onRecord: [] });
      }
    }
    expect(aborted).toBeGreaterThan(4);
    await expectUntouched(vm);
    await expectRightClock(vm);
  });

  it("for its limit, likewise", async () => {
    let late = 0;
    for (const timeoutMs of [1, 10, 40, 70, 110]) {
      await vm.snapshot({ timeoutMs }).then(
        ({ id }) => SmolVM.snapshots.delete(id),
        (error: unknown) => {
          if (!isSmolVMError(error, "TIMEOUT")) throw error;
          late += 1;
        },
      );
      expect(captures(state)).toEqual({ onDisk: [], onRecord: [] });
    }
    expect(late).toBeGreaterThan(0);
    await expectUntouched(vm);
    await expectRightClock(vm);
  });

  it("does not keep commands alive whose program has gone", async () => {
    const abort = new AbortController();
    const copying = rejection(vm.snapshot({ signal: abort.signal }));
    // It copies: the guest has been told to keep its commands meanwhile.
    const isCopying = (id: string) => existsSync(join(state.stateDir, "captures", id, "memory"));
    while (!captures(state).onDisk.some(isCopying)) await pause(1);
    abort.abort();
    expect(await copying).toMatchObject({ code: "ABORTED" });
    const program = await Program.start();
    void program.call("exec", vm.vmId, ["tail", "-f", "/dev/null"]);
    const tails = async () => (await vm.run("pgrep -xc tail || true")).output;
    await eventually(async () => ((await tails()) === "1" ? true : undefined));
    await program.kill();
    await eventually(async () => ((await tails()) === "0" ? true : undefined));
  });

  it("because the machine died: it is told, and can be started again", async () => {
    const dying = await SmolVM.create(state.config());
    await dying.run("echo kept > /root/kept; sync");
    const { pid } = await dying.info();
    const copying = dying.snapshot();
    await eventually(() => (captures(state).onRecord.length > 0 ? true : undefined));
    process.kill(pid!, "SIGKILL");
    const error = await copying.then(
      ({ id }) => SmolVM.snapshots.delete(id),
      (reason: unknown) => reason,
    );
    if (error !== undefined) expect(error).toMatchObject({ code: "CHANNEL_CLOSED" });
    expect(captures(state)).toEqual({ onDisk: [], onRecord: [] });
    await eventually(async () => ((await dying.info()).status === "error" ? true : undefined));
    await dying.start();
    expect((await dying.run("cat /root/kept")).output).toBe("kept");
    await dying.delete();
  });
});

describe.skipIf(!canMount)("a copy that finds no room", () => {
  /** Enough for a small machine, its log and one copy of it. */
  const DISK_BYTES = 320 * 1024 * 1024;
  let disk: string;
  let place: { readonly stateDir: string; readonly databasePath: string };
  let vm: Vm;

  beforeAll(async () => {
    disk = mkdtempSync(join(tmpdir(), "smolvm-full-"));
    execFileSync("mount", ["-t", "tmpfs", "-o", `size=${DISK_BYTES}`, "smolvm-test", disk]);
    place = { stateDir: join(disk, "state"), databasePath: join(disk, "state", "smolvm.db") };
    vm = await SmolVM.create(state.config({ stateDir: place.stateDir }));
    await furnish(vm, "before");
  });

  afterAll(async () => {
    rmSync(join(disk, "ballast"), { force: true });
    try {
      await vm.delete();
      await expectNothingLeft(place.stateDir);
    } finally {
      await deleteAll(place.stateDir);
      execFileSync("umount", ["--lazy", disk]);
      rmSync(disk, { recursive: true });
    }
  });

  it.each([0.3, 20, 60])("with %d MiB left says so, and all is as before", async (roomMib) => {
    const { bavail, bsize } = statfsSync(disk);
    writeFileSync(join(disk, "ballast"), Buffer.alloc(Math.max(0, bavail * bsize - roomMib * 1024 * 1024)));
    for (const copy of [() => vm.snapshot({ name: "never" }), () => vm.checkpoint(), () => vm.fork()]) {
      expect(await rejection(copy())).toMatchObject({ code: "STORAGE_FAILED" });
      await expectUntouched(vm, place);
    }
    await expectRightClock(vm);
    rmSync(join(disk, "ballast"));
  });

  it("works when there is room again", async () => {
    const options = { stateDir: place.stateDir };
    await vm.snapshot({ name: "now" });
    await using restored = await SmolVM.fromSnapshot("now", options);
    expect(await marks(restored)).toEqual(["before", "before", "before"]);
    await restored.delete();
    await SmolVM.snapshots.delete("now", options);
    await expectUntouched(vm, place);
  });
});

async function dismiss(children: Awaited<ReturnType<Vm["fork"]>>): Promise<void> {
  const gone = children.flatMap((child) => (child.ok ? [child.vm.delete()] : []));
  await Promise.all(gone);
  const error = children.find((child) => !child.ok);
  if (error !== undefined && !error.ok) throw error.error;
}
