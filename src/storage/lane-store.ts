// Which process uses which lane (virtio-serial port, one client each) of a VM.

import type { ProcessIdentity } from "../host/process-identity.js";
import type { Database } from "./database.js";
import { identityFrom, identityValues } from "./identity-columns.js";
import { vmNotFound } from "./vm-store.js";

/** A lane and the process that leases it. */
export interface LaneLease {
  readonly lane: number;
  readonly holder: ProcessIdentity;
}

export class LaneStore {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  list(vmId: string): LaneLease[] {
    return this.#db.all("SELECT * FROM lanes WHERE vm_id = ? ORDER BY lane", vmId).flatMap((row) => {
      const holder = identityFrom(row.pid, row.start_time, row.boot_id);
      return holder === undefined ? [] : [{ lane: Number(row.lane), holder }];
    });
  }

  /**
   * Leases the lowest free lane.
   *
   * @param laneCount How many lanes the VM has.
   * @param dead Leases whose holders were seen dead; they are given up first.
   * @returns The lane, or `undefined` when all are taken.
   * @throws {VM_NOT_FOUND} when the VM was deleted meanwhile.
   */
  lease(
    vmId: string,
    request: { readonly laneCount: number; readonly holder: ProcessIdentity; readonly dead: readonly LaneLease[] },
  ): number | undefined {
    return this.#db.transaction(() => {
      for (const lease of request.dead) this.release(vmId, lease);
      const taken = new Set(this.list(vmId).map(({ lane }) => lane));
      for (let lane = 0; lane < request.laneCount; lane++) {
        if (taken.has(lane)) continue;
        const isVmThere =
          this.#db.run(
            `INSERT INTO lanes (vm_id, lane, pid, start_time, boot_id) SELECT id, ?, ?, ?, ? FROM vms WHERE id = ?`,
            lane,
            ...identityValues(request.holder),
            vmId,
          ) === 1;
        if (!isVmThere) throw vmNotFound(vmId);
        return lane;
      }
      return undefined;
    });
  }

  /** Makes a lease, if it is still this holder's, another process's. */
  handOver(vmId: string, { lane, holder }: LaneLease, to: ProcessIdentity): void {
    this.#db.run(
      `UPDATE lanes SET pid = ?, start_time = ?, boot_id = ?
       WHERE vm_id = ? AND lane = ? AND pid = ? AND start_time = ? AND boot_id = ?`,
      ...identityValues(to),
      vmId,
      lane,
      ...identityValues(holder),
    );
  }

  /** Gives up a lease, if it is still this holder's. */
  release(vmId: string, { lane, holder }: LaneLease): void {
    this.#db.run(
      "DELETE FROM lanes WHERE vm_id = ? AND lane = ? AND pid = ? AND start_time = ? AND boot_id = ?",
      vmId,
      lane,
      ...identityValues(holder),
    );
  }

  /** Gives up all leases of a VM that has stopped. */
  releaseAll(vmId: string): void {
    this.#db.run("DELETE FROM lanes WHERE vm_id = ?", vmId);
  }
}
