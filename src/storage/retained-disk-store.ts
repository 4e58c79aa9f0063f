// Disks that were kept when their VMs were deleted, and the files that each is a layer over.

import type { Database } from "./database.js";

/** A kept disk and what it needs. All paths are absolute. */
export interface RetainedDisk {
  readonly path: string;
  readonly basePaths: readonly string[];
}

export class RetainedDiskStore {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  add({ path, basePaths }: RetainedDisk): void {
    this.#db.transaction(() => {
      for (const basePath of basePaths) {
        this.#db.run("INSERT OR IGNORE INTO retained_disks VALUES (?, ?)", path, basePath);
      }
    });
  }

  list(): RetainedDisk[] {
    const disks = new Map<string, string[]>();
    for (const row of this.#db.all("SELECT * FROM retained_disks ORDER BY path")) {
      const path = String(row.path);
      disks.set(path, [...(disks.get(path) ?? []), String(row.base_path)]);
    }
    return [...disks].map(([path, basePaths]) => ({ path, basePaths }));
  }

  /** Forgets a disk that its user has removed. */
  forget(path: string): void {
    this.#db.run("DELETE FROM retained_disks WHERE path = ?", path);
  }
}
