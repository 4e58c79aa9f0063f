// Addresses of TAP networks. The pool is one for a whole network namespace of the host, whatever state directories use
// it. An address that was given up rests before others get it: packets for its last guest may still be on their way.

import { existsSync, readFileSync, statSync } from "node:fs";
import type { Deadline } from "../base/deadline.js";
import { SmolVMError } from "../errors/smolvm-error.js";
import { Database, type SqlValue } from "./database.js";
import { NETWORK_SCHEMA } from "./migrations.js";
import { NetworkLock } from "./network-lock.js";

/** How long an address rests, in milliseconds: a TCP connection that was closed may linger so long (RFC 9293, 3.4.2). */
export const LEASE_REST_MS = 60_000;

/** Whose a lease is. */
export interface LeaseOwner {
  readonly stateDir: string;
  readonly vmId: string;
}

/** One address of the pool. */
export interface Lease {
  readonly index: number;
  readonly owner: LeaseOwner;
  /** What whoever asked for it wanted to be recorded with it. */
  readonly spec: string;
  /** Whether the host's rules are to have it: {@link LeaseStore.place}. */
  readonly isPlaced: boolean;
}

/** What is asked for. */
export interface LeaseRequest {
  readonly spec: string;
  /** Taken where it is free. */
  readonly preferredIndex?: number | undefined;
  /** False for an index that cannot be used now: it is put aside to rest. Called inside the transaction. */
  readonly isUsable?: (index: number) => boolean;
}

/** What a store counts with; tests choose other values. */
export interface LeaseStoreOptions {
  /** Size of the pool: indexes are 0 to one less. */
  readonly leases: number;
  /** Milliseconds on a clock that only goes forward and is the same for all processes of the host. */
  readonly now?: () => number;
}

export class LeaseStore {
  readonly #db: Database;
  readonly #lock: NetworkLock;
  readonly #namespace: string;
  readonly #leases: number;
  readonly #now: () => number;

  /**
   * @param directory The same for everybody who uses this network namespace, and theirs alone.
   * @throws {STORAGE_FAILED}
   */
  constructor(directory: string, { leases, now = uptimeMs }: LeaseStoreOptions) {
    this.#leases = leases;
    this.#now = now;
    this.#db = Database.open(directory, NETWORK_SCHEMA);
    this.#lock = new NetworkLock(directory);
    const bootId = readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim();
    const { dev, ino } = statSync("/proc/self/ns/net");
    this.#namespace = `${dev}:${ino}`;
    this.#db.transaction(() => {
      this.#completeTable();
      this.#db.run("DELETE FROM pools WHERE boot_id <> ?", bootId);
      this.#db.run("INSERT OR IGNORE INTO pools (namespace, boot_id) VALUES (?, ?)", this.#namespace, bootId);
    });
  }

  /**
   * Leases an address: the one that this owner has or had last, else the preferred one, else one that nobody has had
   * yet, else the one that has rested longest.
   *
   * @throws {NETWORK_FAILED} when all are taken, or have not rested for {@link LEASE_REST_MS}.
   */
  lease(owner: LeaseOwner, request: LeaseRequest): number {
    return this.#db.transaction(() => {
      const held = this.leaseOf(owner);
      if (held !== undefined) {
        this.describe({ ...held, spec: request.spec });
        return held.index;
      }
      for (const index of this.#candidates(owner, request.preferredIndex)) {
        if (request.isUsable?.(index) ?? true) {
          this.#hold(index, owner, request.spec);
          return index;
        }
        this.#putAside(index);
      }
      throw this.#usedUp();
    });
  }

  /** What this owner holds. */
  leaseOf(owner: LeaseOwner): Lease | undefined {
    return this.#list("state_dir = ? AND vm_id = ? AND released_at_ms IS NULL", owner.stateDir, owner.vmId)[0];
  }

  /** Replaces what is recorded with a lease, if it is still held. */
  describe({ index, owner, spec }: Pick<Lease, "index" | "owner" | "spec">): void {
    this.#db.run(
      `UPDATE leases SET spec = ? WHERE namespace = ? AND lease_index = ? AND state_dir = ? AND vm_id = ?
       AND released_at_ms IS NULL`,
      spec,
      this.#namespace,
      index,
      owner.stateDir,
      owner.vmId,
    );
  }

  /** From now on the rules of the host have this lease, whoever writes them. */
  place(index: number): void {
    this.#db.run(
      "UPDATE leases SET is_placed = 1 WHERE namespace = ? AND lease_index = ? AND released_at_ms IS NULL",
      this.#namespace,
      index,
    );
  }

  /** Ends a lease, if it is still this owner's: it rests from now on. {@link ended} lists it until {@link forget}. */
  release({ index, owner }: Pick<Lease, "index" | "owner">): void {
    this.#db.run(
      `UPDATE leases SET released_at_ms = ? WHERE namespace = ? AND lease_index = ? AND state_dir = ? AND vm_id = ?
       AND released_at_ms IS NULL`,
      this.#now(),
      this.#namespace,
      index,
      owner.stateDir,
      owner.vmId,
    );
  }

  /** All leases of this network namespace that are held, by index. */
  held(): Lease[] {
    return this.#list("released_at_ms IS NULL");
  }

  /** Leases of state directories that are there no more. */
  abandoned(): Lease[] {
    return this.held().filter(({ owner }) => !existsSync(owner.stateDir));
  }

  /** Leases that were released, and of which something may still be there on the host. */
  ended(): Lease[] {
    return this.#list("released_at_ms IS NOT NULL AND spec IS NOT NULL");
  }

  /** Nothing of these leases is there any more, if they have ended. */
  forget(indexes: readonly number[]): void {
    this.#db.transaction(() => {
      for (const index of indexes) {
        this.#db.run(
          "UPDATE leases SET spec = NULL WHERE namespace = ? AND lease_index = ? AND released_at_ms IS NOT NULL",
          this.#namespace,
          index,
        );
      }
    });
  }

  /** Devices on which forwarding was switched on for this namespace's VMs. */
  uplinks(): string[] {
    const rows = this.#db.all("SELECT device FROM uplinks WHERE namespace = ? ORDER BY device", this.#namespace);
    return rows.map((row) => String(row.device));
  }

  setUplinks(devices: readonly string[]): void {
    this.#db.transaction(() => {
      this.#db.run("DELETE FROM uplinks WHERE namespace = ?", this.#namespace);
      for (const device of new Set(devices)) {
        this.#db.run("INSERT INTO uplinks (namespace, device) VALUES (?, ?)", this.#namespace, device);
      }
    });
  }

  /**
   * Runs `body` while nobody else on the host does, in whatever process and state directory.
   *
   * @throws {BUSY} when others did until the deadline. @throws {ABORTED}
   */
  withLock<T>(body: () => Promise<T>, deadline: Deadline): Promise<T> {
    return this.#lock.run(body, deadline);
  }

  close(): void {
    this.#db.close();
    this.#lock.close();
  }

  /**
   * The first checkouts made a table of this version without `is_placed`, where rules had every lease that was held. Not
   * a step: the file is one for the host, and a version more would shut out the other checkouts that use it.
   */
  #completeTable(): void {
    if (this.#db.columnsOf("leases").includes("is_placed")) return;
    this.#db.run("ALTER TABLE leases ADD COLUMN is_placed INTEGER NOT NULL DEFAULT 0");
    this.#db.run("UPDATE leases SET is_placed = 1 WHERE released_at_ms IS NULL");
  }

  /** What may be leased, in the order in which it is tried. */
  *#candidates(owner: LeaseOwner, preferredIndex: number | undefined): Generator<number> {
    const own = this.#db.get(
      "SELECT lease_index FROM leases WHERE namespace = ? AND state_dir = ? AND vm_id = ? ORDER BY released_at_ms DESC",
      this.#namespace,
      owner.stateDir,
      owner.vmId,
    );
    if (own !== undefined) yield Number(own["lease_index"]);
    if (preferredIndex !== undefined && this.#isFree(preferredIndex)) yield preferredIndex;
    for (let index = this.#nextIndex(); index < this.#leases; index++) {
      this.#db.run("UPDATE pools SET next_index = ? WHERE namespace = ?", index + 1, this.#namespace);
      if (this.#row(index) === undefined) yield index;
    }
    for (;;) {
      const rested = this.#db.get(
        `SELECT lease_index FROM leases WHERE namespace = ? AND released_at_ms <= ? AND spec IS NULL
         ORDER BY released_at_ms, lease_index LIMIT 1`,
        this.#namespace,
        this.#now() - LEASE_REST_MS,
      );
      // What is put aside has not rested any more, so this comes to an end.
      if (rested === undefined) return;
      yield Number(rested["lease_index"]);
    }
  }

  /** Whether an index of the pool has had no owner, or has rested. */
  #isFree(index: number): boolean {
    if (!Number.isInteger(index) || index < 0 || index >= this.#leases) return false;
    const row = this.#row(index);
    if (row === undefined) return true;
    const releasedAtMs = row["released_at_ms"];
    return typeof releasedAtMs === "number" && row["spec"] === null && releasedAtMs <= this.#now() - LEASE_REST_MS;
  }

  #nextIndex(): number {
    return Number(this.#db.get("SELECT next_index FROM pools WHERE namespace = ?", this.#namespace)?.["next_index"]);
  }

  #row(index: number) {
    return this.#db.get("SELECT * FROM leases WHERE namespace = ? AND lease_index = ?", this.#namespace, index);
  }

  #hold(index: number, owner: LeaseOwner, spec: string): void {
    this.#db.run(
      "INSERT OR REPLACE INTO leases (namespace, lease_index, state_dir, vm_id, spec) VALUES (?, ?, ?, ?, ?)",
      this.#namespace,
      index,
      owner.stateDir,
      owner.vmId,
      spec,
    );
  }

  /** What may still be there of an earlier lease stays on record. */
  #putAside(index: number): void {
    this.#db.run(
      `INSERT INTO leases (namespace, lease_index, released_at_ms) VALUES (?, ?, ?)
       ON CONFLICT DO UPDATE SET released_at_ms = excluded.released_at_ms`,
      this.#namespace,
      index,
      this.#now(),
    );
  }

  #list(condition: string, ...values: SqlValue[]): Lease[] {
    const sql = `SELECT * FROM leases WHERE namespace = ? AND ${condition} ORDER BY lease_index`;
    return this.#db.all(sql, this.#namespace, ...values).map((row) => ({
      index: Number(row["lease_index"]),
      owner: { stateDir: String(row["state_dir"]), vmId: String(row["vm_id"]) },
      spec: String(row["spec"]),
      isPlaced: row["is_placed"] === 1,
    }));
  }

  #usedUp(): SmolVMError {
    const held = this.held().length;
    const text = `Cannot lease a TAP address: ${held} of ${this.#leases} are in use, and the others have not rested for ${LEASE_REST_MS / 1_000} s`;
    return new SmolVMError("NETWORK_FAILED", text, {
      details: { held, leases: this.#leases },
      hint: "Delete VMs, wait a minute, or use another network mode.",
    });
  }
}

/** Since the host has started (clock_gettime(2), CLOCK_MONOTONIC). */
function uptimeMs(): number {
  return Number(process.hrtime.bigint() / 1_000_000n);
}
