// What has to be known across state directories that share one cache: who builds, and whose VMs boot from it.

import { Database } from "./database.js";
import { LockStore } from "./lock-store.js";
import { CACHE_SCHEMA } from "./migrations.js";

export class CacheStore {
  readonly #db: Database;
  readonly locks: LockStore;
  /** Tenants that this program has added; what is there is only removed when its state directory is gone. */
  readonly #known = new Set<string>();

  /** @throws {STORAGE_FAILED} */
  constructor(cacheDir: string) {
    this.#db = Database.open(cacheDir, CACHE_SCHEMA);
    this.locks = new LockStore(this.#db);
  }

  /** State directories whose VMs may boot from the cache. */
  tenants(): string[] {
    return this.#db.all("SELECT state_dir FROM tenants").map((row) => String(row.state_dir));
  }

  /** Written once by each program: this is on the way of every new VM. */
  addTenant(stateDir: string): void {
    if (this.#known.has(stateDir)) return;
    this.#db.run("INSERT OR IGNORE INTO tenants VALUES (?)", stateDir);
    this.#known.add(stateDir);
  }

  /** Forgets a state directory that is gone. */
  removeTenant(stateDir: string): void {
    this.#known.delete(stateDir);
    this.#db.run("DELETE FROM tenants WHERE state_dir = ?", stateDir);
  }

  close(): void {
    this.#db.close();
  }
}
