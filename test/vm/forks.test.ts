// Forks of machines that run: what the children have, what is each one's own, and what the parent notices.

import { createHash } from "node:crypto";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import {
  bootOf,
  captures,
  counter,
  expectNoCapturesAtTheEnd,
  expectRightClock,
  expectToCount,
  furnish,
  marks,
} from "../support/copies.js";
import { otherQemu } from "../support/other-qemu.js";
import { Program } from "../support/program.js";
import { type ForkResult, SmolVM, type Vm, VmManager } from "../support/smolvm.js";
import { expectNothingLeft, testState, vmmPids } from "../support/state.js";
import { eventually, rejection } from "../support/wait.js";

const MARKED = "/root/disk /root/cached /dev/shm/memory";

const state = testState();
expectNoCapturesAtTheEnd(state);

/** The children's handles; fails if one of them is an error. */
function handles(children: readonly ForkResult[]): Vm[] {
  return children.map((child) => {
    if (child.ok) return child.vm;
    throw child.error;
  });
}

async function forkOne(vm: Vm): Promise<Vm> {
  return handles(await vm.fork())[0]!;
}

async function deleteVms(vms: readonly Vm[]): Promise<void> {
  await Promise.all(vms.map((vm) => vm.delete()));
}

describe("a fork", () => {
  let parent: Vm;

  beforeAll(async () => {
    parent = await SmolVM.create(state.config({ vmId: "parent", envVars: { GREETING: "hello" } }));
    await furnish(parent, "before");
  });

  afterAll(async () => {
    await parent.delete();
    await expectNothingLeft(state.stateDir);
  });

  // After a failure the next test finds what it expects.
  afterEach(async () => {
    await using manager = new VmManager();
    const others = (await manager.list()).filter(({ vmId }) => vmId !== "parent");
    for (const { vmId } of others) await manager.delete(vmId);
  });

  it("gives children that have all of it and share nothing from then on, while the parent goes on", async () => {
    const [boot, counted] = [await bootOf(parent), (await counter(parent))!];
    const children = handles(await parent.fork({ count: 3 }));
    expect(new Set([...children, parent].map(({ vmId }) => vmId)).size).toBe(4);
    for (const child of children) {
      const { residentKib, privateKib } = guestMemoryOf((await child.info()).pid!);
      expect(privateKib).toBeLessThan(residentKib * 0.7);
      expect(await marks(child)).toEqual(["before", "before", "before"]);
      expect((await child.run("hostname; echo $GREETING")).output).toBe(`${child.vmId}\nhello`);
      expect((await child.info()).startedFrom).toEqual({ kind: "fork", id: "parent" });
      await expectToCount(child, counted);
    }
    const all = [parent, ...children];
    const write = `for f in ${MARKED} /root/new /dev/shm/new-too; do hostname > $f; done; sync`;
    await Promise.all(all.map((vm) => vm.run(write, { check: true })));
    await Promise.all(all.map((vm) => vm.run("echo 3 > /proc/sys/vm/drop_caches")));
    for (const vm of all) {
      const { output } = await vm.run(`cat ${MARKED} /root/new /dev/shm/new-too`);
      expect(new Set(output.split("\n"))).toEqual(new Set([vm.vmId]));
    }
    expect([parent.status, await bootOf(parent)]).toEqual(["running", boot]);
    await expectToCount(parent, counted);
    await expectRightClock(parent);
    // All of them stand on the one copy.
    expect(captures(state).onDisk).toHaveLength(1);
    await deleteVms(children);
    expect(captures(state)).toEqual({ onDisk: [], onRecord: [] });
    await parent.run(`for f in ${MARKED}; do echo before > $f; done`);
  });

  it("of a fork of a fork has what each of them wrote before", async () => {
    const line: Vm[] = [];
    for (let generation = 1; generation <= 3; generation++) {
      const elder = line.at(-1) ?? parent;
      await elder.run(`echo ${generation} >> /root/generations; echo ${generation} >> /dev/shm/generations; sync`);
      line.push(await forkOne(elder));
    }
    const lines = ["1\n1", "1\n2\n1\n2", "1\n2\n3\n1\n2\n3"];
    // The elders go first: nobody needs more of them than their disks.
    for (const [index, vm] of line.entries()) {
      await vm.run("echo 3 > /proc/sys/vm/drop_caches");
      const expected = index < 2 ? lines[index + 1] : lines[2];
      expect((await vm.run("cat /root/generations /dev/shm/generations")).output).toBe(expected);
      if (index < 2) await vm.delete();
    }
    const [, , youngest] = line;
    expect(captures(state).onDisk).toHaveLength(3);
    await youngest!.stop();
    await youngest!.start();
    expect((await youngest!.run("cat /root/generations")).output).toBe("1\n2\n3");
    await youngest!.delete();
    expect(captures(state).onDisk).toEqual([]);
  });

  it("leaves each running command's result with the parent, to the byte, and lets the command go on in the child", async () => {
    const work = `for i in $(seq 1 30); do echo line $i; echo $i >> /root/progress; sleep 0.1; done; exit 7`;
    const ran = parent.exec(["sh", "-c", work]);
    const [pieces, pieceBytes] = [30, 256 * 1024];
    const bytes = pieces * pieceBytes;
    const stream = `for i in $(seq 1 ${pieces}); do head -c ${pieceBytes} /dev/zero | tr "\\0" x; sleep 0.1; done; printf end`;
    let ended = 0;
    const streamed = [1, 2, 3].map(() => parent.run(stream, { maxOutputBytes: bytes + 3 }).finally(() => ended++));
    await eventually(async () =>
      (await parent.run("wc -l < /root/progress || true")).output > "3" ? true : undefined,
    );
    const child = await forkOne(parent);
    expect(ended).toBe(0);
    const atFork = Number((await child.run("wc -l < /root/progress")).output);
    expect(atFork).toBeLessThan(30);
    const expected = sha256(`${"x".repeat(bytes)}end`);
    for (const result of await Promise.all(streamed)) {
      expect([result.exitCode, result.stdout.length, result.truncated]).toEqual([0, bytes + 3, false]);
      expect(sha256(result.stdout)).toBe(expected);
    }
    const { stdout, exitCode } = await ran;
    expect(stdout).toBe(Array.from({ length: 30 }, (_, index) => `line ${index + 1}\n`).join(""));
    expect(exitCode).toBe(7);
    // Nobody reads what it says there; it goes on to its end all the same.
    await eventually(async () => ((await child.run("tail -1 /root/progress")).output === "30" ? true : undefined));
    await child.delete();
  });

  it("lives on without its parent, keeps its files over a cold boot, and its kept disk keeps its layers", async () => {
    const elder = await SmolVM.create(state.config({ retainDiskOnDelete: true }));
    await elder.run("echo elder > /root/elder; sync");
    const child = await forkOne(elder);
    const { retainedDiskPath: eldersDisk } = await elder.delete();
    rmSync(eldersDisk!);
    expect((await child.run("echo child > /root/child; cat /root/elder")).output).toBe("elder");
    const boot = await bootOf(child);
    await child.stop();
    await child.start();
    expect((await child.run("cat /root/elder /root/child; hostname")).output).toBe(`elder\nchild\n${child.vmId}`);
    expect(await bootOf(child)).not.toBe(boot);
    await child.pause();
    await child.resume();
    const { retainedDiskPath } = await child.delete();
    await using manager = new VmManager();
    await manager.reconcile();
    await manager.pruneImages();
    const { onDisk } = captures(state);
    expect(onDisk).toHaveLength(1);
    const layer = join(state.stateDir, "captures", onDisk[0]!, "disk.qcow2");
    expect(backingFileOf(retainedDiskPath!)).toBe(layer);
    for (let below: string | undefined = layer; below?.endsWith(".qcow2"); below = backingFileOf(below)) {
      expect(existsSync(below)).toBe(true);
    }
    rmSync(retainedDiskPath!);
    await manager.reconcile();
    expect(captures(state).onDisk).toEqual([]);
  });

  it("of a paused VM runs, and the parent stays paused", async () => {
    await parent.pause();
    const child = await forkOne(parent);
    expect((await parent.info()).status).toBe("paused");
    expect((await child.run("cat /root/disk")).output).toBe("before");
    await expectToCount(child, (await counter(child))!);
    await child.delete();
    await parent.resume();
    await expectToCount(parent, (await counter(parent))!);
  });

  it.each([0, 65, 1.5, -1, Number.NaN, "2", null])("of %j children is refused by its field", async (count) => {
    const error = await rejection(parent.fork({ count: count as number }));
    expect(error).toMatchObject({ code: "INVALID_CONFIG", details: { field: "count" } });
    expect(captures(state).onDisk).toEqual([]);
  });
});

describe("a fork of which a part fails", () => {
  it("tells of each child that cannot be started, and why; the others run", async () => {
    // The first machine that is named like no other before it never starts, however often it is tried.
    using fussy = otherQemu(`
      if [ -e $directory/armed ] && [ "$1" != --version ]; then
        [[ "$*" =~ (vm-[0-9a-f]{8}) ]]
        mkdir $directory/unlucky 2>/dev/null && echo "\${BASH_REMATCH[1]}" > $directory/unlucky/id
        [ "$(cat $directory/unlucky/id)" = "\${BASH_REMATCH[1]}" ] && { echo "no luck" >&2; exit 3; }
      fi`);
    await using program = await Program.start({ env: fussy.env });
    const parent = await program.call("boot", state.config({ vmId: "parent" }));
    writeFileSync(join(fussy.directory, "armed"), "");
    const children = await program.call("fork", parent, { count: 4 });
    const failed = children.flatMap((child) => (child.ok ? [] : [child.error]));
    const running = children.flatMap((child) => (child.ok ? [child.vmId] : []));
    expect([failed.length, running.length]).toEqual([1, 3]);
    expect(failed[0]).toMatchObject({
      code: "BOOT_FAILED",
      details: { vmmStderr: expect.stringContaining("no luck") },
    });
    for (const id of running) expect((await program.call("exec", id, ["hostname"])).output).toBe(id);
    expect((await program.call("exec", parent, ["hostname"])).output).toBe(parent);
    expect((await SmolVM.list()).map(({ vmId }) => vmId).sort()).toEqual([...running, parent].sort());
    await program.call("deleteMany", [...running, parent]);
    await expectNothingLeft(state.stateDir);
  });

  it("aborted half-way gives those that run and an error for each other one", async () => {
    await using parent = await SmolVM.create(state.config({ vmId: "parent" }));
    const abort = new AbortController();
    const forking = parent.fork({ count: 12, signal: abort.signal });
    await eventually(() => (vmmPids(state.runtimeDir).length > 5 ? true : undefined));
    abort.abort();
    const children = await forking;
    expect(children).toHaveLength(12);
    const errors = children.flatMap((child) => (child.ok ? [] : [child.error]));
    const running = children.flatMap((child) => (child.ok ? [child.vm] : []));
    for (const error of errors) expect(error).toMatchObject({ code: "ABORTED" });
    expect(running.length).toBeGreaterThan(0);
    expect(errors.length).toBeGreaterThan(0);
    for (const vm of running) expect((await vm.run("hostname")).output).toBe(vm.vmId);
    expect(await SmolVM.list()).toHaveLength(running.length + 1);
    await deleteVms(running);
    expect((await parent.run("echo up")).output).toBe("up");
  });
});

it.each([1, 2])("of a guest with %i vCPUs that starts commands all the time harms none of them", async (vcpuCount) => {
  await using parent = await SmolVM.create(state.config({ vcpuCount }));
  let isOver = false;
  const commands = Array.from({ length: 3 }, async () => {
    for (let count = 0; ; count++) {
      if (isOver) return count;
      expect((await parent.exec(["echo", String(count)])).output).toBe(String(count));
    }
  });
  for (let round = 0; round < 4; round++) {
    const child = await forkOne(parent);
    expect((await child.exec(["echo", "child"])).output).toBe("child");
    await child.delete();
  }
  isOver = true;
  for (const count of await Promise.all(commands)) expect(count).toBeGreaterThan(0);
});

/** What a VMM holds of its guest's memory, and what of that no other process has, in KiB. */
function guestMemoryOf(pid: number) {
  const mapping = readFileSync(`/proc/${pid}/smaps`, "utf8")
    .split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m)
    .find((text) => /\/memory\n/.test(text));
  const field = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(mapping ?? "")?.[1]);
  return { residentKib: field("Rss"), privateKib: field("Private_Clean") + field("Private_Dirty") };
}

/** The file that a qcow2 layer says it is over. */
function backingFileOf(path: string): string | undefined {
  const header = readFileSync(path).subarray(0, 65_536);
  const offset = Number(header.readBigUInt64BE(8));
  return offset === 0 ? undefined : header.toString("utf8", offset, offset + header.readUInt32BE(16));
}

function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}
