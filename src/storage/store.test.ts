import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { Deadline } from "../base/deadline.js";
import { sleep } from "../base/sleep.js";
import { runProgram } from "../host/process.js";
import { type ProcessIdentity, selfIdentity } from "../host/process-identity.js";
import type { CacheStore } from "./cache-store.js";
import { Database } from "./database.js";
import { CACHE_SCHEMA } from "./migrations.js";
import type { Store } from "./store.js";
import { compileProgram } from "./testing/compiled.js";
import { deadProcess, scratchCacheStore, scratchDirectory, scratchStore } from "./testing/scratch-store.js";

const alice: ProcessIdentity = { pid: 100, startTime: "1000", bootId: "boot" };
const bob: ProcessIdentity = { pid: 100, startTime: "2000", bootId: "boot" };

let self: ProcessIdentity;
let stateDir: string;
let store: Store;

beforeAll(async () => {
  self = await selfIdentity();
});

beforeEach(() => {
  stateDir = scratchDirectory();
  store = scratchStore(stateDir);
});

function insert(id: string, mover = alice, into = store): void {
  into.vms.insert({ id, spec: "{}", guestNumber: into.vms.freeGuestNumber(), mover, keeper: undefined });
}

describe("VMs", () => {
  test("begin as being created, by whoever inserts them", () => {
    store.vms.insert({ id: "a", spec: '{"x":1}', guestNumber: 0, mover: alice, keeper: bob });
    expect(store.vms.find("a")).toEqual({
      id: "a",
      status: "created",
      spec: '{"x":1}',
      failure: undefined,
      warnings: [],
      move: { transition: "creating", mover: alice },
      keeper: bob,
      createdAtMs: expect.any(Number),
      updatedAtMs: expect.any(Number),
    });
    expect(store.vms.find("b")).toBeUndefined();
  });

  test("an id that is taken is refused and its row untouched", () => {
    insert("a");
    const before = store.vms.find("a");
    const other = { id: "a", spec: "other", guestNumber: 1, mover: bob, keeper: undefined };
    const again = () => store.vms.insert(other);
    expect(again).toThrow(expect.objectContaining({ code: "VM_EXISTS", details: { vmId: "a" } }));
    expect(store.vms.find("a")).toEqual(before);
  });

  test("get the smallest number that is free", () => {
    for (const id of ["a", "b", "c", "d"]) insert(id);
    expect(store.vms.freeGuestNumber()).toBe(4);
    store.vms.remove("b");
    expect(store.vms.freeGuestNumber()).toBe(1);
    store.vms.remove("a");
    expect(store.vms.freeGuestNumber()).toBe(0);
    insert("e");
    insert("f");
    expect(store.vms.freeGuestNumber()).toBe(4);
  });

  test("are told anew what they are made of, and let go of their keeper", () => {
    store.vms.insert({ id: "a", spec: "old", guestNumber: 0, mover: alice, keeper: bob });
    store.vms.setSpec("a", "new");
    expect(store.vms.keepForever("a")).toBe(true);
    expect(store.vms.find("a")).toMatchObject({ spec: "new", keeper: undefined });
    expect(store.vms.keepForever("b")).toBe(false);
  });

  test("are listed in the order of their creation", () => {
    for (const id of ["c", "a", "b"]) insert(id);
    const order = store.vms.list().map(({ createdAtMs, id }) => [createdAtMs, id]);
    expect(order).toEqual([...order].sort());
    expect(order).toHaveLength(3);
  });

  test("one claim at a time, and only from a state that allows it", () => {
    insert("a");
    const claim = (from: "created" | "running", mover = alice) =>
      store.vms.claim("a", [from], { transition: "starting", mover });
    expect(claim("created")).toBe(false); // It is still being created.
    store.vms.settle("a", alice, { status: "created" });
    expect(claim("running")).toBe(false);
    expect(store.vms.claim("a", [], { transition: "starting", mover: alice })).toBe(false);
    expect(claim("created")).toBe(true);
    expect(claim("created", bob)).toBe(false);
    expect(store.vms.find("a")?.move).toEqual({ transition: "starting", mover: alice });
    expect(store.vms.claim("nobody", ["created"], { transition: "starting", mover: alice })).toBe(false);
  });

  test("only the claim's holder settles it; the same pid at another time is another process", () => {
    insert("a");
    const settle = (mover: ProcessIdentity) => () => store.vms.settle("a", mover, { status: "running" });
    expect(settle(bob)).toThrow(expect.objectContaining({ code: "INTERNAL" }));
    expect(settle({ ...alice, bootId: "other" })).toThrow(expect.objectContaining({ code: "INTERNAL" }));
    expect(store.vms.find("a")?.status).toBe("created");
    settle(alice)();
    expect(store.vms.find("a")).toMatchObject({ status: "running", move: undefined });
    expect(settle(alice)).toThrow(expect.objectContaining({ code: "INTERNAL" }));
  });

  test("a failure is kept until the next settlement", () => {
    insert("a");
    const failure = { code: "BOOT_FAILED", message: 'it said "no"' };
    store.vms.settle("a", alice, { status: "error", failure });
    expect(store.vms.find("a")).toMatchObject({ status: "error", failure });
    expect(store.vms.claim("a", ["error"], { transition: "starting", mover: alice })).toBe(true);
    store.vms.settle("a", alice, { status: "running" });
    expect(store.vms.find("a")?.failure).toBeUndefined();
  });

  test("a dead mover's change is taken over by exactly one", () => {
    insert("a");
    const move = store.vms.find("a")!.move!;
    const carol = { ...alice, pid: 300 };
    expect(store.vms.takeOver("a", { ...move, mover: bob }, carol)).toBe(false);
    expect(store.vms.takeOver("a", { ...move, transition: "stopping" }, carol)).toBe(false);
    expect(store.vms.takeOver("a", move, carol)).toBe(true);
    expect(store.vms.takeOver("a", move, bob)).toBe(false);
    expect(store.vms.find("a")?.move).toEqual({ transition: "creating", mover: carol });
    store.vms.settle("a", carol, { status: "error" });
    expect(store.vms.takeOver("a", { ...move, mover: carol }, bob)).toBe(false);
  });

  test("are not removed while anything of them is on record; lanes and ports go with them", () => {
    insert("a");
    store.resources.plan("a", [{ kind: "directory", name: "/x" }]);
    store.lanes.lease("a", { laneCount: 1, holder: alice, dead: [] });
    store.ports.reserve("a", [{ hostAddress: "127.0.0.1", hostPort: 1, guestPort: 1, origin: "config" }]);
    expect(() => store.vms.remove("a")).toThrow(expect.objectContaining({ code: "STORAGE_FAILED" }));
    store.resources.forget("a", { kind: "directory", name: "/x" });
    store.vms.remove("a");
    expect([store.vms.list(), store.lanes.list("a"), store.ports.reserved()]).toEqual([[], [], []]);
  });
});

describe("resources", () => {
  test("are planned once, become processes, and are forgotten one by one", () => {
    insert("a");
    store.resources.plan("a", [
      { kind: "process", name: "vmm" },
      { kind: "runtime", name: "/run/x" },
    ]);
    store.resources.plan("a", [{ kind: "process", name: "vmm" }]);
    expect(store.resources.list("a")).toEqual([
      { kind: "process", name: "vmm", process: undefined },
      { kind: "runtime", name: "/run/x", process: undefined },
    ]);
    store.resources.setProcess("a", "vmm", bob);
    expect(store.resources.list("a")[0]?.process).toEqual(bob);
    store.resources.forget("a", { kind: "process", name: "vmm" });
    expect(store.resources.list("a")).toHaveLength(1);
    expect(() => store.resources.plan("nobody", [{ kind: "runtime", name: "/y" }])).toThrow(
      expect.objectContaining({ code: "STORAGE_FAILED" }),
    );
  });
});

describe("lanes", () => {
  const lease = (holder: ProcessIdentity, dead: { lane: number; holder: ProcessIdentity }[] = []) =>
    store.lanes.lease("a", { laneCount: 3, holder, dead });

  beforeEach(() => insert("a"));

  test("the lowest free one is given, until all are taken", () => {
    expect([lease(alice), lease(bob), lease(alice), lease(bob)]).toEqual([0, 1, 2, undefined]);
    store.lanes.release("a", { lane: 1, holder: bob });
    store.lanes.release("a", { lane: 2, holder: alice });
    expect(lease(alice)).toBe(1);
  });

  test("only the holder's own is released", () => {
    lease(alice);
    store.lanes.release("a", { lane: 0, holder: bob });
    store.lanes.release("a", { lane: 1, holder: alice });
    expect(store.lanes.list("a")).toEqual([{ lane: 0, holder: alice }]);
  });

  test("what the dead hold is reclaimed, but not from who took it meanwhile", () => {
    for (const holder of [alice, bob, alice]) lease(holder);
    const dead = [{ lane: 1, holder: bob }];
    expect(lease({ ...alice, pid: 7 }, dead)).toBe(1);
    expect(lease({ ...alice, pid: 8 }, dead)).toBeUndefined();
  });

  test("belong to one VM, and go all together", () => {
    insert("b");
    lease(alice);
    expect(store.lanes.lease("b", { laneCount: 1, holder: alice, dead: [] })).toBe(0);
    store.lanes.releaseAll("a");
    expect([store.lanes.list("a"), store.lanes.list("b")]).toEqual([[], [{ lane: 0, holder: alice }]]);
  });
});

test("verdicts are remembered and replaced", () => {
  expect(store.verdicts.find("kvm")).toBeUndefined();
  store.verdicts.save("kvm", "works");
  store.verdicts.save("kvm", "no longer");
  expect(store.verdicts.find("kvm")).toBe("no longer");
});

test("retained disks are remembered until they are forgotten", () => {
  const basePaths = ["/c/layer.qcow2", "/c/rootfs.ext4"];
  store.retainedDisks.add({ path: "/r/a.qcow2", basePaths });
  store.retainedDisks.add({ path: "/r/a.qcow2", basePaths });
  store.retainedDisks.add({ path: "/r/b.qcow2", basePaths: ["/c/rootfs.ext4"] });
  expect(store.retainedDisks.list()).toEqual([
    { path: "/r/a.qcow2", basePaths },
    { path: "/r/b.qcow2", basePaths: ["/c/rootfs.ext4"] },
  ]);
  store.retainedDisks.forget("/r/b.qcow2");
  store.retainedDisks.forget("/r/a.qcow2");
  expect(store.retainedDisks.list()).toEqual([]);
});

test("a cache knows each state directory once", () => {
  const cache = scratchCacheStore();
  for (const stateDir of ["/s/a", "/s/b", "/s/a"]) cache.addTenant(stateDir);
  expect(cache.tenants()).toEqual(["/s/a", "/s/b"]);
  cache.removeTenant("/s/a");
  expect(cache.tenants()).toEqual(["/s/b"]);
});

describe("locks", () => {
  let cache: CacheStore;

  beforeEach(() => {
    cache = scratchCacheStore(stateDir);
  });

  test("one at a time, also within a process and between two handles", async () => {
    const other = scratchCacheStore(stateDir);
    let inside = 0;
    let most = 0;
    const work = async () => {
      inside += 1;
      most = Math.max(most, inside);
      await sleep(3);
      inside -= 1;
    };
    const all = [cache, other, cache, other].map(({ locks }) => locks.withLock("x", work, Deadline.after(5_000)));
    await Promise.all(all);
    expect(most).toBe(1);
  });

  test("different ones do not wait for each other", async () => {
    const inner = () => cache.locks.withLock("y", async () => "done", Deadline.after(1_000));
    expect(await cache.locks.withLock("x", inner, Deadline.after(1_000))).toBe("done");
  });

  test("are given back when the work throws", async () => {
    const broken = cache.locks.withLock("x", () => Promise.reject(new RangeError("no")), Deadline.after(1_000));
    await expect(broken).rejects.toThrow(RangeError);
    expect(await cache.locks.withLock("x", async () => 5, Deadline.after(0))).toBe(5);
  });

  test("say who holds them when the deadline passes, and who aborted", async () => {
    const hold = async () => {
      const waiting = cache.locks.withLock("x", async () => 1, Deadline.after(20));
      await expect(waiting).rejects.toMatchObject({ code: "BUSY", details: { lock: "x", pid: process.pid } });
      const abort = new AbortController();
      const aborted = cache.locks.withLock("x", async () => 1, Deadline.after(5_000, abort.signal));
      abort.abort();
      await expect(aborted).rejects.toMatchObject({ code: "ABORTED" });
    };
    await cache.locks.withLock("x", hold, Deadline.after(1_000));
  });

  test("a dead holder's is taken over", async () => {
    for (const holder of [deadProcess(), { ...self, startTime: "1" }]) {
      // A process dies with the lock: its body never ends, and its row names it.
      const stuck = scratchCacheStore(stateDir);
      const spy = vi.fn(() => new Promise<never>(() => {}));
      void stuck.locks.withLock("x", spy, Deadline.after(1_000));
      await vi.waitFor(() => expect(spy).toHaveBeenCalled());
      renameHolder(stateDir, holder);
      expect(await cache.locks.withLock("x", async () => "mine", Deadline.after(1_000))).toBe("mine");
    }
  });
});

/** Makes the lock look as if another process had taken it. */
function renameHolder(directory: string, { pid, startTime, bootId }: ProcessIdentity): void {
  const db = Database.open(directory, CACHE_SCHEMA);
  db.run("UPDATE locks SET pid = ?, start_time = ?, boot_id = ?", pid, startTime, bootId);
  db.close();
}

describe("two handles on one file", () => {
  test("see each other at once, and a claim goes to one of them", () => {
    const other = scratchStore(stateDir);
    for (let index = 0; index < 50; index++) {
      const [first, second] = index % 2 === 0 ? [store, other] : [other, store];
      insert(`vm-${index}`, alice, first);
      expect(() => insert(`vm-${index}`, bob, second)).toThrow(expect.objectContaining({ code: "VM_EXISTS" }));
      first.vms.settle(`vm-${index}`, alice, { status: "created" });
      const claims = [second, first].map(({ vms }) =>
        vms.claim(`vm-${index}`, ["created"], { transition: "starting", mover: alice }),
      );
      expect(claims).toEqual([true, false]);
    }
    expect(other.vms.list()).toHaveLength(50);
  });
});

describe("four processes at once", () => {
  const PROCESSES = 4;
  const ROUNDS = 25;

  test("lose nothing, share nothing and see no error of SQLite", async () => {
    const racer = compileProgram(scratchDirectory(), "racer");
    const raced = scratchDirectory();
    const names = Array.from({ length: PROCESSES }, (_, index) => `racer${index}`);
    const running = names.map((name) =>
      runProgram([process.execPath, racer, raced, name, String(ROUNDS)], { timeoutMs: 10_000 }),
    );
    // The lanes' VM must be there before they start, on a database that they then open at the same moment.
    const shared = scratchStore(raced);
    insert("shared", alice, shared);
    shared.close();
    writeFileSync(join(raced, "go"), "");
    const results = (await Promise.all(running)).map(
      ({ stdout }) => JSON.parse(stdout) as { lanes: number[]; inLock: [number, number][] },
    );

    const lanes = results.flatMap((result) => result.lanes).sort((a, b) => a - b);
    expect(lanes).toEqual(Array.from({ length: PROCESSES * ROUNDS }, (_, index) => index));
    const after = scratchStore(raced);
    const ids = after.vms.list().map(({ id }) => id);
    expect(new Set(ids).size).toBe(PROCESSES * ROUNDS + 1);
    expect(after.vms.list().filter(({ move }) => move !== undefined)).toHaveLength(1);
    expect(after.ports.reserved()).toHaveLength(PROCESSES * ROUNDS);

    const held = results.flatMap(({ inLock }) => inLock).sort(([a], [b]) => a - b);
    expect(held).toHaveLength(PROCESSES * 3);
    held.forEach(([from], index) => {
      expect(from).toBeGreaterThanOrEqual(held[index - 1]?.[1] ?? 0);
    });
  });

  test("may all be the first", async () => {
    const racer = compileProgram(scratchDirectory(), "racer");
    for (let round = 0; round < 2; round++) {
      const raced = scratchDirectory();
      const running = ["a", "b", "c", "d"].map((name) =>
        runProgram([process.execPath, racer, raced, name, "0"], { timeoutMs: 10_000 }),
      );
      await sleep(300); // Long enough for Node.js to start; they poll for the file.
      writeFileSync(join(raced, "go"), "");
      await Promise.all(running);
    }
  });
});
