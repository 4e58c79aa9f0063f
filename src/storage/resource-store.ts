// Every host resource of a VM, named here before it exists and forgotten only after it is gone.

import type { ProcessIdentity } from "../host/process-identity.js";
import type { Database } from "./database.js";
import { identityFrom, identityValues } from "./identity-columns.js";

/** What a resource is, which says how it is removed. */
export type ResourceKind = "directory" | "runtime" | "process" | "tap";

/** One recorded resource. */
export interface Resource {
  readonly kind: ResourceKind;
  /** Absolute path of a directory (`runtime`: of sockets, gone when the VM stops), or the role of a process, or that of a TAP device. */
  readonly name: string;
  /** The process, once it runs. Recorded without one: it may or may not have been started. */
  readonly process: ProcessIdentity | undefined;
}

export class ResourceStore {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** Records resources that are about to be created. */
  plan(vmId: string, resources: readonly Pick<Resource, "kind" | "name">[]): void {
    this.#db.transaction(() => {
      for (const { kind, name } of resources) {
        this.#db.run("INSERT OR IGNORE INTO resources (vm_id, kind, name) VALUES (?, ?, ?)", vmId, kind, name);
      }
    });
  }

  /** Records which process a planned one became. */
  setProcess(vmId: string, role: string, identity: ProcessIdentity): void {
    this.#db.run(
      "UPDATE resources SET pid = ?, start_time = ?, boot_id = ? WHERE vm_id = ? AND kind = 'process' AND name = ?",
      ...identityValues(identity),
      vmId,
      role,
    );
  }

  list(vmId: string): Resource[] {
    return this.#db.all("SELECT * FROM resources WHERE vm_id = ? ORDER BY id", vmId).map((row) => ({
      kind: row.kind as ResourceKind,
      name: String(row.name),
      process: identityFrom(row.pid, row.start_time, row.boot_id),
    }));
  }

  /** Forgets a resource that is gone. */
  forget(vmId: string, { kind, name }: Pick<Resource, "kind" | "name">): void {
    this.#db.run("DELETE FROM resources WHERE vm_id = ? AND kind = ? AND name = ?", vmId, kind, name);
  }
}
