// Pools of real machines: what is handed out, in which order, what happens to what dies, and what is left in the end.

import { readdirSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { expectNoCapturesAtTheEnd, expectRightClock } from "../support/copies.js";
import { Program } from "../support/program.js";
import { SmolVM, VmManager } from "../support/smolvm.js";
import { expectNothingLeft, testState, vmmPids } from "../support/state.js";
import { eventually, rejection } from "../support/wait.js";

const state = testState();
expectNoCapturesAtTheEnd(state);

afterEach(() => expectNothingLeft(state.stateDir));

/** A pool of small machines that refills as fast as it can. */
const poolOf = (size: number, overrides = {}) =>
  SmolVM.pool({ size, config: state.config(overrides), refillsPerSecond: 100 });

async function vmIds(): Promise<string[]> {
  return (await SmolVM.list()).map(({ vmId }) => vmId).sort();
}

describe("a pool", () => {
  it("is filled, hands out machines that run, each once and with its own identity, and is filled again", async () => {
    await using pool = poolOf(2, { envVars: { GREETING: "hello" } });
    await pool.filled();
    expect(pool.stats()).toMatchObject({ size: 2, ready: 2, hits: 0, misses: 0, failed: 0 });
    const ready = await vmIds();
    expect(ready).toHaveLength(2);
    const first = await pool.acquire();
    const second = await pool.acquire();
    expect([first.vmId, second.vmId].sort()).toEqual(ready);
    const told = await Promise.all(
      [first, second].map((vm) => vm.run("hostname; echo $GREETING; cat /etc/machine-id")),
    );
    expect(told.map(({ stdout }) => stdout.split("\n").slice(0, 2))).toEqual([
      [first.vmId, "hello"],
      [second.vmId, "hello"],
    ]);
    expect(told[0]!.stdout.split("\n")[2]).not.toBe(told[1]!.stdout.split("\n")[2]);
    await expectRightClock(first);
    await pool.filled();
    expect(pool.stats()).toMatchObject({ ready: 2, hits: 2, misses: 0, died: 0 });
    expect(await vmIds()).toHaveLength(4);
    await pool[Symbol.asyncDispose]();
    // What was taken is the taker's; what was not is gone.
    expect(await vmIds()).toEqual(ready);
    expect((await first.run("echo still here")).output).toBe("still here");
    expect(await rejection(pool.acquire())).toMatchObject({ code: "INVALID_STATE" });
    await first.delete();
    await second.delete();
  });

  it("does not hand out a machine that died while it waited", async () => {
    await using pool = poolOf(2);
    await pool.filled();
    const [victim] = await SmolVM.list();
    process.kill(victim!.pid!, "SIGKILL");
    await eventually(() => (vmmPids(state.runtimeDir).length < 2 ? true : undefined));
    const vms = await Promise.all([pool.acquire(), pool.acquire()]);
    for (const vm of vms) {
      expect(vm.vmId).not.toBe(victim!.vmId);
      expect((await vm.run("hostname")).output).toBe(vm.vmId);
    }
    expect(pool.stats().died).toBe(1);
    await pool.filled();
    expect((await SmolVM.list()).map(({ vmId, status }) => [vmId, status])).not.toContainEqual([victim!.vmId, "error"]);
    await Promise.all(vms.map((vm) => vm.delete()));
  });

  it("serves twelve at once in the order in which they asked, and none of them another's machine", async () => {
    await using pool = poolOf(2);
    await pool.filled();
    const served: number[] = [];
    const calls = Array.from({ length: 12 }, async (_, caller) => {
      await using vm = await pool.acquire();
      served.push(caller);
      expect((await vm.run(`echo ${caller} >> /root/caller; cat /root/caller; hostname`)).output).toBe(
        `${caller}\n${vm.vmId}`,
      );
      return vm.vmId;
    });
    expect(new Set(await Promise.all(calls)).size).toBe(12);
    // The first two machines were looked at at the same time.
    expect(served.slice(0, 2).sort()).toEqual([0, 1]);
    expect(served.slice(2)).toEqual([2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    expect(pool.stats()).toMatchObject({ hits: 2, misses: 10, failed: 0, waiting: 0 });
  });

  it("tells a caller why no machine can be made", async () => {
    await using pool = poolOf(1, { rootfsPath: "/nowhere/disk" });
    expect(await rejection(pool.acquire({ timeoutMs: 20_000 }))).toMatchObject({
      code: "INVALID_CONFIG",
      details: { field: "rootfsPath" },
    });
    expect(pool.stats()).toMatchObject({ ready: 0, hits: 0, misses: 1 });
  });
});

describe("the program of a pool", () => {
  it("killed: the next one removes what nobody took, half-made machines too, and nothing else", async () => {
    const bystander = await SmolVM.create(state.config());
    for (const moment of ["half-way", "filled"] as const) {
      const program = await Program.start();
      await program.call("pool", { size: 3, config: state.config(), refillsPerSecond: 100 });
      const kept = await program.call("acquire");
      if (moment === "filled") await program.call("poolFilled");
      await program.kill();
      await using next = await Program.start();
      const { failed, cleaned } = await next.call("reconcile");
      expect(failed).toEqual([]);
      if (moment === "filled") expect(cleaned).toHaveLength(3);
      expect((await next.call("list")).map(({ vmId }) => vmId).sort()).toEqual([bystander.vmId, kept].sort());
      // Taken is taken: it outlives its program.
      expect((await next.call("exec", kept, ["hostname"])).output).toBe(kept);
      expect(readdirSync(join(state.stateDir, "vms"))).toHaveLength(2);
      expect(vmmPids(state.runtimeDir)).toHaveLength(2);
      await next.call("delete", kept);
    }
    await bystander.delete();
  });

  it('takes along what it took, where it asked for lifetime "process"', async () => {
    const program = await Program.start();
    await program.call("pool", { size: 1, config: state.config({ lifetime: "process" }) });
    const taken = await program.call("acquire");
    expect((await program.call("exec", taken, ["hostname"])).output).toBe(taken);
    await program.kill();
    await using manager = new VmManager();
    expect(await manager.list()).toEqual([]);
  });

  it("ends by itself though its pool is open and full", async () => {
    const program = await Program.start();
    await program.call("pool", { size: 1, config: state.config() });
    await program.call("poolFilled");
    await program.end();
    await using manager = new VmManager();
    expect(await manager.list()).toEqual([]);
  });
});
