// Ends in the middle of the making of a template: by SIGKILL, by an abort, by a full disk. Afterwards there is a whole
// template or none, nothing else is left, and the next start works.

import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, rmSync, statfsSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { fillCache, testCache } from "../support/cache.js";
import { Program } from "../support/program.js";
import { pruneImages, SmolVM, type VMConfig } from "../support/smolvm.js";
import { expectNothingLeft, processesAbout, testState } from "../support/state.js";
import { eventually, pause, rejection } from "../support/wait.js";

const canMount = process.platform === "linux" && process.getuid?.() === 0;
if (!canMount)
  console.log(`gate: ${process.platform === "linux" ? "root" : "linux"}: the test mounts a small file system`);

const cache = testCache();
const state = testState();
const SMALL: VMConfig = { vcpuCount: 1, memSizeMib: 192 };
const NEW_TEMPLATE = ["devices", "disk.qcow2", "manifest.json", "memory", "verified-"];

/** A file of the template in the making. */
function isStaged(name: string): boolean {
  return cache.staging().some((directory) => existsSync(join(cache.cacheDir, "staging", directory, "template", name)));
}

/** What can be seen from outside of how far the making is. */
const MOMENTS: Record<string, (steps: readonly string[]) => boolean> = {
  "it is about to boot": (steps) => steps.length > 0,
  "its disk is there": () => isStaged("disk.qcow2"),
  "its memory is there": () => isStaged("memory"),
  "the guest is up": () => isStaged("memory") && hasConsole(),
  "its devices are there": () => isStaged("devices"),
  "it is being hashed": (steps) => steps.includes("Recording the template's checksums"),
  "its manifest is there": () => isStaged("manifest.json"),
  "it is published": () => cache.templates().length > 0,
};

/** Whether the guest that boots for the template has said something. */
function hasConsole(): boolean {
  const vms = join(state.stateDir, "vms");
  return existsSync(vms) && readdirSync(vms).some((id) => existsSync(join(vms, id, "console.log")));
}

/** Waits without a pause longer than the moments are short. */
async function reach(isThere: () => boolean): Promise<void> {
  const end = performance.now() + 60_000;
  while (!isThere()) {
    if (performance.now() > end) throw new Error("The moment does not come");
    await pause(2);
  }
}

/** A whole template, or none; and no process that has to do with the cache. */
async function expectWholeOrNone(): Promise<void> {
  for (const directory of cache.templates()) {
    const names = readdirSync(directory).sort();
    expect(names).toEqual(NEW_TEMPLATE.map((name) => expect.stringMatching(new RegExp(`^${name}`))));
  }
  await eventually(() => (processesAbout(cache.cacheDir).length === 0 ? true : undefined)).catch(() => {});
  expect(processesAbout(cache.cacheDir)).toEqual([]);
  await pruneImages();
  expect([cache.templates(), cache.staging()]).toEqual([[], []]);
  await expectNothingLeft(state.stateDir);
}

describe("a program killed while it makes a template", () => {
  it.each(Object.keys(MOMENTS))("when %s", async (moment) => {
    const program = await Program.start();
    void program.call("boot", state.config({ ...SMALL, vmId: "first" }));
    await reach(() => MOMENTS[moment]!(program.progress()));
    await program.kill();
    await using next = await Program.start();
    const { failed } = await next.call("reconcile");
    expect(failed).toEqual([]);
    // Killed after the last step, it may have been done.
    for (const { vmId } of await next.call("list")) await next.call("delete", vmId);
    await next.end();
    await expectWholeOrNone();
  });

  it("and started again by two others: they have a VM each from one template", async () => {
    const [program, ...others] = (await Program.startMany(3)) as [Program, Program, Program];
    void program.call("boot", state.config(SMALL));
    await reach(() => isStaged("memory"));
    // The others already wait for it to be made.
    const booting = others.map((other) => other.call("boot", state.config(SMALL)));
    await pause(500);
    await program.kill();
    const ids = await Promise.all(booting);
    expect([cache.templates().length, cache.staging()]).toEqual([1, []]);
    for (const [index, other] of others.entries()) {
      expect((await other.call("info", ids[index]!)).startedFrom.kind).toBe("template");
      expect((await other.call("exec", ids[index]!, ["hostname"])).output).toBe(ids[index]);
      await other.call("delete", ids[index]!);
      await other.end();
    }
    await using last = await Program.start();
    await last.call("reconcile");
    await last.end();
    await expectWholeOrNone();
  });
});

describe("an abort", () => {
  it.each(Object.keys(MOMENTS).slice(0, -1))("while a template is made, when %s", async (moment) => {
    const steps: string[] = [];
    const abort = new AbortController();
    const options = { signal: abort.signal, onProgress: ({ step }: { step: string }) => void steps.push(step) };
    const creating = rejection(SmolVM.create(state.config(SMALL), options));
    await reach(() => MOMENTS[moment]!(steps));
    abort.abort();
    expect(await creating).toMatchObject({ code: "ABORTED" });
    expect(cache.staging()).toEqual([]);
    await expectWholeOrNone();
  });

  it("at any moment of a start from a template leaves a VM or nothing", async () => {
    await (await SmolVM.create(state.config(SMALL))).delete();
    const outcomes = new Set<string>();
    for (let afterMs = 1; afterMs < 2_000 && !outcomes.has("started"); afterMs = Math.ceil(afterMs * 1.4)) {
      const outcome = await SmolVM.create(state.config(SMALL), { signal: AbortSignal.timeout(afterMs) }).then(
        async (vm) => {
          expect((await vm.run("echo up")).output).toBe("up");
          await vm.delete();
          return "started";
        },
        (error: { code: string }) => error.code,
      );
      outcomes.add(outcome);
      await expectNothingLeft(state.stateDir);
    }
    expect([...outcomes].sort()).toEqual(["ABORTED", "started"]);
    expect(cache.templates()).toHaveLength(1);
    await expectWholeOrNone();
  });
});

describe.skipIf(!canMount)("a cache on a full disk", () => {
  let disk: string;
  const before = process.env["SMOLVM_CACHE_DIR"];

  beforeAll(() => {
    disk = mkdtempSync(join(tmpdir(), "smolvm-fullcache-"));
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=1g,mode=0700", "smolvm-test", disk]);
    fillCache(disk);
    // Without holes: this file system needs room where a hole of a mapped file is read, which others do not.
    const kernel =
      "d=$0; for f in $d/images/*/vmlinux; do cp --preserve --sparse=never $f $d/dense && mv $d/dense $f; done";
    execFileSync("sh", ["-ec", kernel, disk]);
  });

  afterAll(() => {
    process.env["SMOLVM_CACHE_DIR"] = before;
    execFileSync("umount", ["--lazy", disk]);
    rmSync(disk, { recursive: true });
  });

  /** Leaves this much room, in MiB. */
  function fill(roomMib: number): void {
    rmSync(join(disk, "ballast"), { force: true });
    const { bavail, bsize } = statfsSync(disk);
    writeFileSync(join(disk, "ballast"), Buffer.alloc(Math.max(0, bavail * bsize - roomMib * 2 ** 20)));
  }

  // Little for the layer of the disk; some of the guest's memory while it boots; nearly all of it.
  it.each([0, 20, 60])("with room for %i MiB of the template: the VM boots cold and says so", async (roomMib) => {
    await using program = await Program.start({ env: { SMOLVM_CACHE_DIR: disk } });
    // What every VM needs there, template or not.
    await program.call("delete", await program.call("create", state.config(SMALL)));
    fill(roomMib);
    const id = await program.call("boot", state.config(SMALL));
    const { startedFrom, warnings } = await program.call("info", id);
    expect(startedFrom).toEqual({ kind: "boot", id: null });
    expect(warnings).toEqual([expect.stringMatching(/^Booted cold .*no template could be made/)]);
    expect((await program.call("exec", id, ["echo", "up"])).output).toBe("up");
    await program.call("delete", id);
    expect(readdirSync(join(disk, "staging"))).toEqual([]);
    await program.end();
    await expectNothingLeft(state.stateDir);
  });

  it("with room again makes a template", async () => {
    rmSync(join(disk, "ballast"));
    await using program = await Program.start({ env: { SMOLVM_CACHE_DIR: disk } });
    const id = await program.call("boot", state.config(SMALL));
    expect((await program.call("info", id)).startedFrom.kind).toBe("template");
    await program.call("delete", id);
    await program.end();
  });
});
