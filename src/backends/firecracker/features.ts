// What the Firecracker backend can do on this platform.

import type { BackendFeatures } from "../backend.js";

/** The vsock port that the agent listens on (agent/internal/lane/vsock.go); every lane is a connection to it. */
export const AGENT_PORT = 1023;
/**
 * As many as QEMU has. The agent serves 16 connections at once: beside these and the starter's own, some that are ending
 * while their clients have come back.
 */
export const FIRECRACKER_LANES = 8;
/** vCPUs of a machine (MAX_SUPPORTED_VCPUS in src/vmm/src/vmm_config/machine_config.rs). */
export const VCPUS_LIMIT = 32;

/** @param platform As in `process.platform`. */
export function firecrackerFeatures(platform: NodeJS.Platform): BackendFeatures {
  return {
    laneCount: FIRECRACKER_LANES,
    accelerators: platform === "linux" ? ["kvm"] : [],
    linkKinds: ["tap"],
    diskFormats: ["raw"],
    keepsLanes: false,
  };
}
