// What the public contract has and this version does not: refused by name, never ignored.

import { SmolVMError } from "../errors/smolvm-error.js";
import { type CheckedConfig, networkModeOf } from "./vm-config.js";

/** @throws {UNSUPPORTED} naming the field. */
export function refuseUnsupported(config: CheckedConfig): void {
  if (networkModeOf(config) === "tap") throw unsupported("network", 'network mode "tap" is');
  if (typeof config.network !== "string" && (config.network.egress ?? "open") !== "open") {
    throw unsupported("network.egress", "an egress policy is");
  }
}

function unsupported(field: string, what: string): SmolVMError {
  return new SmolVMError("UNSUPPORTED", `Cannot create the VM: ${what} not part of this version of SmolVM`, {
    details: { field },
  });
}
