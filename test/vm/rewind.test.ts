// Checkpoints and going back to them: the same VM, as it was.

import { existsSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  captures,
  counter,
  expectNoCapturesAtTheEnd,
  expectRightClock,
  expectToCount,
  furnish,
  marks,
  served,
} from "../support/copies.js";
import { type CheckpointInfo, SmolVM, type Vm } from "../support/smolvm.js";
import { expectNothingLeft, testState, vmmPids } from "../support/state.js";
import { eventually, rejection } from "../support/wait.js";

/** Checkpoints that a VM keeps. */
const KEPT = 8;

const state = testState();
expectNoCapturesAtTheEnd(state);

const write = (vm: Vm, text: string) =>
  vm.run(`for f in /root/disk /root/cached /dev/shm/memory; do echo ${text} > $f; done; sync`, { check: true });

describe("a VM with checkpoints", () => {
  let vm: Vm;
  let port: number;
  const taken: CheckpointInfo[] = [];

  beforeAll(async () => {
    const config = { vmId: "undo", network: "user", ports: [{ guest: 8000 }], envVars: { GREETING: "hello" } } as const;
    vm = await SmolVM.create(state.config(config));
    port = (await vm.info()).ports[0]!.host;
    await furnish(vm, "zero");
    await vm.run(
      "mkdir /srv/web; cd /srv/web; echo web > index.html; setsid python3 -m http.server 8000 > /dev/null 2>&1 &",
      {
        orphans: "keep",
      },
    );
    expect(await served(port)).toBe("web\n");
  });

  afterAll(async () => {
    await vm.delete();
    await expectNothingLeft(state.stateDir);
  });

  it("goes back: files, memory and processes are there again, and so are name, ports and environment", async () => {
    taken.push(await vm.checkpoint());
    expect(taken[0]).toMatchObject({ vmId: "undo", id: expect.stringMatching(/^checkpoint-[0-9a-f]{8}$/) });
    const counted = (await counter(vm))!;
    for (let time = 1; time <= 2; time++) {
      await write(vm, "spoilt");
      await vm.run("rm -rf /srv/web /root/.profile; pkill -KILL -f http.server; hostname spoilt; echo x > /root/new");
      await vm.run(`kill -KILL ${counted.pid}; sync; echo 3 > /proc/sys/vm/drop_caches`);
      await vm.rewind(taken[0]!);
      expect(await marks(vm)).toEqual(["zero", "zero", "zero"]);
      await expectToCount(vm, counted);
      expect((await vm.run("hostname; echo $GREETING; ls /root/new || echo gone")).output).toBe("undo\nhello\ngone");
      expect(await served(port)).toBe("web\n");
      await expectRightClock(vm);
      const { vmId, status, ports, startedFrom } = await vm.info();
      expect({ vmId, status, startedFrom }).toEqual({
        vmId: "undo",
        status: "running",
        startedFrom: { kind: "checkpoint", id: taken[0]!.id },
      });
      expect(ports.map(({ host }) => host)).toEqual([port]);
    }
    // One VMM, one disk: what was left behind is gone.
    expect(vmmPids(state.runtimeDir)).toHaveLength(1);
    await vm.run("echo 3 > /proc/sys/vm/drop_caches");
    expect(await marks(vm)).toEqual(["zero", "zero", "zero"]);
  });

  it("goes to an older one and to a newer one again, also from stopped and from error", async () => {
    await write(vm, "one");
    taken.push(await vm.checkpoint());
    await write(vm, "two");
    taken.push(await vm.checkpoint());
    await vm.rewind(taken[1]!.id);
    expect(await marks(vm)).toEqual(["one", "one", "one"]);
    await vm.stop();
    await vm.rewind(taken[2]!);
    expect(await marks(vm)).toEqual(["two", "two", "two"]);
    expect(await vm.checkpoints()).toEqual(taken);
    process.kill((await vm.info()).pid!, "SIGKILL");
    await eventually(async () => ((await vm.info()).status === "error" ? true : undefined));
    await vm.rewind(taken[0]!);
    expect(await marks(vm)).toEqual(["zero", "zero", "zero"]);
    expect(await vm.info()).toMatchObject({ status: "running", failure: null });
    await vm.pause();
    await vm.rewind(taken[1]!);
    expect([vm.status, await marks(vm)]).toEqual(["running", ["one", "one", "one"]]);
  });

  it("keeps its newest eight, and of the others only what it stands on", async () => {
    await using other = await SmolVM.create(state.config());
    const before = captures(state).onDisk.length;
    const made: CheckpointInfo[] = [];
    for (let number = 0; number <= KEPT; number++) {
      await other.run(`echo ${number} > /root/number`);
      made.push(await other.checkpoint());
    }
    const gone = made.shift()!;
    expect(await other.checkpoints()).toEqual(made);
    expect(await rejection(other.rewind(gone))).toMatchObject({
      code: "SNAPSHOT_NOT_FOUND",
      details: { checkpoint: gone.id },
    });
    expect(captures(state).onDisk).toHaveLength(before + KEPT);
    expect(captures(state).onDisk).not.toContain(gone.id);
    const [oldest] = made;
    await other.rewind(oldest!);
    expect((await other.run("cat /root/number")).output).toBe("1");
    await other.checkpoint();
    // It can no longer be gone back to, but what the VM goes on from is in there.
    expect(await rejection(other.rewind(oldest!))).toMatchObject({ code: "SNAPSHOT_NOT_FOUND" });
    expect(captures(state).onDisk).toContain(oldest!.id);
    await other.run("echo 3 > /proc/sys/vm/drop_caches");
    expect((await other.run("cat /root/number")).output).toBe("1");
    await other.rewind(made.at(-1)!);
    expect((await other.run("cat /root/number")).output).toBe("8");
    await other.delete();
    expect(captures(state).onDisk).toHaveLength(before);
  });

  it("refuses one of another VM, and is untouched then", async () => {
    await using other = await SmolVM.create(state.config());
    const foreign = await other.checkpoint();
    for (const [one, checkpoint] of [
      [vm, foreign],
      [other, taken[2]!],
    ] as const) {
      expect(await rejection(one.rewind(checkpoint))).toMatchObject({
        code: "SNAPSHOT_NOT_FOUND",
        details: { checkpoint: checkpoint.id },
      });
    }
    expect(await marks(vm)).toEqual(["one", "one", "one"]);
    await other.delete();
    expect(existsSync(join(state.stateDir, "captures", foreign.id))).toBe(false);
  });

  it("loses the commands that run", async () => {
    const running = rejection(vm.exec(["tail", "-f", "/dev/null"]));
    await eventually(async () => ((await vm.run("pgrep -xc tail || true")).output === "1" ? true : undefined));
    await vm.rewind(taken[2]!);
    expect(await running).toMatchObject({ code: "CHANNEL_CLOSED" });
    expect((await vm.run("pgrep -xc tail || true")).output).toBe("0");
  });

  it("is forked, stopped and started like any other, with the disk that it went back to", async () => {
    const [child] = await vm.fork();
    if (!child?.ok) throw child?.error ?? new Error("no child");
    expect(await marks(child.vm)).toEqual(["two", "two", "two"]);
    await child.vm.delete();
    await vm.stop();
    await vm.start();
    expect((await vm.run("cat /root/disk /root/cached; hostname")).output).toBe("two\ntwo\nundo");
    expect(await counter(vm)).toBeUndefined(); // What was in memory is gone, as after any stop.
    await vm.rewind(taken[2]!);
    const { diskPath } = await vm.info();
    // Each going back makes a new top layer; the one before it is gone.
    expect(readdirSync(dirname(diskPath)).filter((name) => name.endsWith(".qcow2"))).toHaveLength(1);
  });
});
