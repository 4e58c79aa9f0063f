import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { Deadline } from "../base/deadline.js";
import { Database } from "./database.js";
import { LEASE_REST_MS, LeaseStore } from "./lease-store.js";
import { NETWORK_SCHEMA } from "./migrations.js";
import { scratchDirectory } from "./testing/scratch-store.js";

/** Leases with a clock of the test's own. */
class Pool {
  readonly directory = scratchDirectory();
  nowMs = 1_000_000;
  readonly store: LeaseStore;

  constructor(leases = 4) {
    this.store = this.open(leases);
  }

  open(leases = 4): LeaseStore {
    const store = new LeaseStore(this.directory, { leases, now: () => this.nowMs });
    onTestFinished(() => store.close());
    return store;
  }

  readonly owner = (vmId: string) => ({ stateDir: join(this.directory, "state"), vmId });

  lease(vmId: string, preferredIndex?: number, isUsable?: (index: number) => boolean): number {
    return this.store.lease(this.owner(vmId), {
      spec: `spec of ${vmId}`,
      preferredIndex,
      ...(isUsable && { isUsable }),
    });
  }

  /** Releases, and says that nothing is left of it. */
  release(vmId: string): void {
    const lease = this.store.leaseOf(this.owner(vmId));
    if (lease === undefined) return;
    this.store.release(lease);
    this.store.forget([lease.index]);
  }
}

const usedUp = expect.objectContaining({ code: "NETWORK_FAILED", message: expect.stringContaining("in use") });

describe("leases", () => {
  it("are given in order, and an owner keeps its own", () => {
    const pool = new Pool();
    expect([pool.lease("a"), pool.lease("b"), pool.lease("a"), pool.lease("c")]).toEqual([0, 1, 0, 2]);
    expect(pool.store.held().map(({ index, owner, spec }) => [index, owner.vmId, spec])).toEqual([
      [0, "a", "spec of a"],
      [1, "b", "spec of b"],
      [2, "c", "spec of c"],
    ]);
  });

  it("that were released rest while there are fresh ones, then the one that has rested longest comes first", () => {
    const pool = new Pool(3);
    for (const vmId of ["a", "b", "c"]) {
      pool.lease(vmId);
      pool.release(vmId);
      pool.nowMs += 1_000;
    }
    expect(() => pool.lease("d")).toThrow(usedUp);
    pool.nowMs += LEASE_REST_MS - 3_000;
    expect(pool.lease("d")).toBe(0);
    expect(() => pool.lease("e")).toThrow(usedUp);
    pool.nowMs += 2_000;
    pool.release("d");
    expect([pool.lease("e"), pool.lease("f")]).toEqual([1, 2]);
  });

  it("go back to their last owner without a rest, even while something of them is left", () => {
    const pool = new Pool(2);
    expect([pool.lease("a"), pool.lease("b")]).toEqual([0, 1]);
    pool.store.release({ index: 0, owner: pool.owner("a") });
    pool.nowMs += 10 * LEASE_REST_MS;
    // Others do not get what may still be there.
    expect(() => pool.lease("c")).toThrow(usedUp);
    expect(pool.lease("a")).toBe(0);
    expect(pool.store.ended()).toEqual([]);
  });

  it("are preferred where they are free", () => {
    const pool = new Pool(4);
    expect(pool.lease("a", 2)).toBe(2);
    expect(pool.lease("b", 2)).toBe(0);
    expect([pool.lease("c", 7), pool.lease("d", -1)]).toEqual([1, 3]);
    pool.release("a");
    expect(() => pool.lease("e", 2)).toThrow(usedUp);
    pool.nowMs += LEASE_REST_MS;
    expect(pool.lease("e", 2)).toBe(2);
  });

  it("that cannot be used are put aside for as long as others rest", () => {
    const pool = new Pool(3);
    const isUsable = (index: number) => index !== 0;
    expect([pool.lease("a", undefined, isUsable), pool.lease("b", 0, isUsable)]).toEqual([1, 2]);
    expect(() => pool.lease("c", undefined, isUsable)).toThrow(usedUp);
    pool.nowMs += LEASE_REST_MS;
    const asked = vi.fn(isUsable);
    expect(() => pool.lease("c", undefined, asked)).toThrow(usedUp);
    expect(asked.mock.calls).toEqual([[0]]);
    pool.nowMs += LEASE_REST_MS;
    expect(pool.lease("c")).toBe(0);
  });

  it("are released by their owner only, and once", () => {
    const pool = new Pool();
    pool.lease("a");
    pool.store.release({ index: 0, owner: pool.owner("b") });
    expect(pool.store.held()).toHaveLength(1);
    pool.store.release({ index: 0, owner: pool.owner("a") });
    pool.nowMs += 5_000;
    pool.store.release({ index: 0, owner: pool.owner("a") });
    expect([pool.store.held(), pool.store.ended().map(({ index }) => index)]).toEqual([[], [0]]);
    pool.store.forget([0, 1]);
    expect(pool.store.ended()).toEqual([]);
    pool.nowMs += LEASE_REST_MS - 5_000;
    expect(pool.lease("x", 0)).toBe(0);
  });

  it("can be described anew and placed while they are held", () => {
    const pool = new Pool();
    pool.lease("a");
    expect(pool.store.leaseOf(pool.owner("a"))).toMatchObject({ isPlaced: false });
    pool.store.place(0);
    pool.store.describe({ index: 0, owner: pool.owner("a"), spec: "new" });
    pool.store.describe({ index: 0, owner: pool.owner("b"), spec: "stolen" });
    expect(pool.store.leaseOf(pool.owner("a"))).toMatchObject({ index: 0, spec: "new", isPlaced: true });
    pool.release("a");
    pool.store.describe({ index: 0, owner: pool.owner("a"), spec: "late" });
    expect(pool.store.ended()).toEqual([]);
    pool.lease("a");
    expect(pool.store.leaseOf(pool.owner("a"))).toMatchObject({ isPlaced: false });
  });

  it("of state directories that are gone are known", () => {
    const pool = new Pool();
    mkdirSync(pool.owner("a").stateDir);
    pool.lease("a");
    expect(pool.store.abandoned()).toEqual([]);
    rmSync(pool.owner("a").stateDir, { recursive: true });
    expect(pool.store.abandoned().map(({ owner }) => owner.vmId)).toEqual(["a"]);
  });

  it("belong to one boot and one network namespace", () => {
    const pool = new Pool();
    pool.lease("a");
    const db = Database.open(pool.directory, NETWORK_SCHEMA);
    onTestFinished(() => db.close());
    db.run("INSERT INTO pools (namespace, boot_id, next_index) SELECT '1:2', boot_id, 1 FROM pools");
    db.run("UPDATE leases SET namespace = '1:2'");
    expect(pool.lease("b")).toBe(1);
    expect(pool.store.held().map(({ owner }) => owner.vmId)).toEqual(["b"]);
    db.run("UPDATE pools SET boot_id = 'an earlier boot'");
    expect(pool.open().held()).toEqual([]);
    expect(db.all("SELECT * FROM leases")).toEqual([]);
  });
});

it("those of before it was recorded whether rules have them are kept, and rules have those that are held", () => {
  const pool = new Pool();
  for (const vmId of ["a", "b"]) pool.lease(vmId);
  pool.release("b");
  const db = Database.open(pool.directory, NETWORK_SCHEMA);
  onTestFinished(() => db.close());
  db.run("ALTER TABLE leases DROP COLUMN is_placed");
  const store = pool.open();
  expect(store.held()).toMatchObject([{ index: 0, owner: { vmId: "a" }, spec: "spec of a", isPlaced: true }]);
  expect(db.all("SELECT is_placed FROM leases ORDER BY lease_index")).toEqual([{ is_placed: 1 }, { is_placed: 0 }]);
  pool.lease("c");
  expect(store.held().map(({ isPlaced }) => isPlaced)).toEqual([true, false]);
  expect(db.get("PRAGMA user_version")).toEqual({ user_version: NETWORK_SCHEMA.migrations.length });
});

it("uplinks are what was set last", () => {
  const { store } = new Pool();
  expect(store.uplinks()).toEqual([]);
  store.setUplinks(["eth0", "tun0", "eth0"]);
  expect(store.uplinks()).toEqual(["eth0", "tun0"]);
  store.setUplinks([]);
  expect(store.uplinks()).toEqual([]);
});

describe("the lock", () => {
  it("is held by one at a time, in the order of asking, and leases go on meanwhile", async () => {
    const pool = new Pool();
    const stores = [pool.store, pool.open()];
    const log: string[] = [];
    let inside = 0;
    const work = Array.from({ length: 8 }, (_, i) =>
      (stores[i % 2] ?? pool.store).withLock(async () => {
        inside += 1;
        expect(inside).toBe(1);
        pool.store.lease(pool.owner(`vm-${i % 3}`), { spec: "" });
        await new Promise((done) => setTimeout(done, 3));
        inside -= 1;
        log.push(`${i % 2}:${i}`);
      }, Deadline.after(5_000)),
    );
    await Promise.all(work);
    expect(log.filter((one) => one.startsWith("0"))).toEqual(["0:0", "0:2", "0:4", "0:6"]);
    expect(log).toHaveLength(8);
  });

  it("is given back when the work fails, and waiting for it ends", async () => {
    const pool = new Pool();
    const failing = pool.store.withLock(() => Promise.reject(new RangeError("no")), Deadline.after(1_000));
    await expect(failing).rejects.toThrow(RangeError);
    let letGo = () => {};
    const held = pool.store.withLock(() => new Promise<void>((done) => (letGo = done)), Deadline.after(1_000));
    const nothing = () => Promise.resolve();
    for (const store of [pool.store, pool.open()]) {
      await expect(store.withLock(nothing, Deadline.after(20))).rejects.toMatchObject({ code: "BUSY" });
      const aborted = Deadline.after(1_000, AbortSignal.abort());
      await expect(store.withLock(nothing, aborted)).rejects.toMatchObject({ code: "ABORTED" });
    }
    letGo();
    await held;
    await pool.store.withLock(nothing, Deadline.after(1_000));
  });
});
