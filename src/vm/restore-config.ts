// What a caller may ask of a VM that goes on from a snapshot: nothing that would make it another machine.

import { invalidConfig } from "../errors/invalid-config.js";
import { type AskedNetwork, networkOf } from "./network-config.js";
import { type CheckedConfig, checkConfig, type VMConfig } from "./vm-config.js";
import type { VmSpec } from "./vm-spec.js";

/**
 * What a VM from a snapshot may be given. Fields of the machine (`vcpuCount memSizeMib image diskMode bootArgs backend
 * accel network`) are accepted if they say what the snapshot says; `egress` and `rateLimitMbps` of the network may differ.
 */
export type RestoreVMConfig = Omit<VMConfig, "stateDir">;

/** Checked settings; what was not given is `undefined` where the snapshot decides. */
export interface RestoreConfig
  extends Pick<CheckedConfig, "vmId" | "ports" | "envVars" | "retainDiskOnDelete" | "lifetime"> {
  readonly bootTimeoutMs: number | undefined;
  /** The snapshot's, but for what was given. */
  readonly network: AskedNetwork;
}

/** Fields that are not part of the machine. */
const FREE_FIELDS = new Set([
  "vmId",
  "ports",
  "envVars",
  "bootTimeoutMs",
  "retainDiskOnDelete",
  "lifetime",
  "stateDir",
]);
/** Fields of the machine that may be given if they say what the snapshot says. */
const FIXED_FIELDS: Readonly<Record<string, (vm: VmSpec) => unknown>> = {
  vcpuCount: (vm) => vm.vcpuCount,
  memSizeMib: (vm) => vm.memSizeMib,
  image: (vm) => vm.image?.name,
  diskMode: (vm) => vm.disk.mode,
  bootArgs: (vm) => vm.bootArgs,
  backend: (vm) => vm.backend,
  accel: (vm) => vm.accelerator,
  network: (vm) => vm.networkMode,
  commChannel: (vm) => (vm.ssh === undefined ? "agent" : "ssh"),
};

/** @throws {INVALID_CONFIG} {UNSUPPORTED} naming the field. */
export function checkRestoreConfig(config: unknown, vm: VmSpec): RestoreConfig {
  const given = typeof config === "object" && config !== null ? (config as Record<string, unknown>) : {};
  const checked = checkConfig(config === undefined ? {} : config);
  for (const [field, value] of Object.entries(given)) {
    if (value === undefined || value === "auto" || FREE_FIELDS.has(field)) continue;
    const recorded = FIXED_FIELDS[field]?.(vm);
    const asked = field === "network" ? networkOf(checked).mode : value;
    if (recorded !== undefined && asked === recorded) continue;
    const expected = recorded === undefined ? "nothing" : `nothing, or ${JSON.stringify(recorded)}`;
    throw invalidConfig({ field, value, expected: `${expected}: it is part of the snapshot` });
  }
  const { vmId, ports, envVars, retainDiskOnDelete, lifetime } = checked;
  const bootTimeoutMs = given["bootTimeoutMs"] === undefined ? undefined : checked.bootTimeoutMs;
  const network = restoredNetwork(checked, vm);
  return { vmId, ports, envVars, retainDiskOnDelete, lifetime, bootTimeoutMs, network };
}

/** A field that is left out says what the snapshot says: a copy is never less closed than what it is a copy of. */
function restoredNetwork({ network }: Pick<CheckedConfig, "network">, vm: VmSpec): AskedNetwork {
  const given = typeof network === "object" ? network : undefined;
  return {
    mode: vm.networkMode,
    egress: given?.egress ?? vm.egress,
    rateLimitMbps: given?.rateLimitMbps ?? vm.rateLimitMbps ?? undefined,
  };
}
