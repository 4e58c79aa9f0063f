// This host: what it can do, and making it able.

import type { WaitOptions } from "../base/deadline.js";
import type { DoctorReport } from "../vm/diagnose-host.js";
import type { ReconcileReport } from "../vm/reconcile.js";
import { sharedManager } from "../vm/shared-manager.js";
import type { StateOptions } from "./state-options.js";

export { type SetupOptions, type SetupReport, setupHost } from "../vm/setup-host.js";

/** Checks everything that SmolVM needs of this host. @throws {ABORTED} {STORAGE_FAILED} */
export async function diagnoseHost(options?: WaitOptions): Promise<DoctorReport> {
  return sharedManager().diagnose(options);
}

/** Brings the records of a state directory and the host to agreement. @throws {STORAGE_FAILED} */
export async function reconcile(options: StateOptions = {}): Promise<ReconcileReport> {
  return sharedManager(options.stateDir).reconcile();
}
