// One manager for each state directory of this program, so that handles share connections and lanes.

import { hostPaths } from "../host/paths.js";
import { VmManager } from "./vm-manager.js";

const managers = new Map<string, VmManager>();

/** @throws {STORAGE_FAILED} when the state directory cannot be opened. */
export function sharedManager(stateDir?: string): VmManager {
  const path = hostPaths({ stateDir }).stateDir;
  let manager = managers.get(path);
  if (manager === undefined) {
    manager = new VmManager({ stateDir: path });
    managers.set(path, manager);
  }
  return manager;
}
