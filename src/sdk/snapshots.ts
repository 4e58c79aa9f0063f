// The snapshots of a state directory, as `SmolVM.snapshots`.

import type { WaitOptions } from "../base/deadline.js";
import { sharedManager } from "../vm/shared-manager.js";
import type { SnapshotInfo } from "../vm/snapshots.js";

/** Where to look, and for how long. */
export interface SnapshotLookupOptions extends WaitOptions {
  /** Default `SMOLVM_STATE_DIR` or `~/.local/state/smolvm`. */
  readonly stateDir?: string | undefined;
}

export const snapshots = {
  /** All of them, the oldest first. */
  async list(options: SnapshotLookupOptions = {}): Promise<readonly SnapshotInfo[]> {
    return sharedManager(options.stateDir).listSnapshots(options);
  },

  /** One by its id or name. @throws {INVALID_CONFIG} {SNAPSHOT_NOT_FOUND} */
  async get(id: string, options: SnapshotLookupOptions = {}): Promise<SnapshotInfo> {
    return sharedManager(options.stateDir).findSnapshot(id, options);
  },

  /**
   * Deletes one by its id or name.
   *
   * @throws {BUSY} while a VM, another snapshot or a kept disk stands on it.
   * @throws {INVALID_CONFIG} {SNAPSHOT_NOT_FOUND} {STORAGE_FAILED}
   */
  async delete(id: string, options: SnapshotLookupOptions = {}): Promise<void> {
    return sharedManager(options.stateDir).deleteSnapshot(id, options);
  },
} as const;
