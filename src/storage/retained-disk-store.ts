// Disks that were kept when their VMs were deleted, and what each is a layer over.

import type { Database } from "./database.js";

/** A kept disk. Both paths are absolute. */
export interface RetainedDisk {
  readonly path: string;
  readonly basePath: string;
}

export class RetainedDiskStore {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  add({ path, basePath }: RetainedDisk): void {
    this.#db.run("INSERT OR REPLACE INTO retained_disks VALUES (?, ?)", path, basePath);
  }

  list(): RetainedDisk[] {
    return this.#db
      .all("SELECT * FROM retained_disks")
      .map((row) => ({ path: String(row.path), basePath: String(row.base_path) }));
  }

  /** Forgets a disk that its user has removed. */
  forget(path: string): void {
    this.#db.run("DELETE FROM retained_disks WHERE path = ?", path);
  }
}
