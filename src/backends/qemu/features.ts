// What the QEMU backend can do on this platform.

import type { BackendFeatures } from "../backend.js";

/** virtio-serial ports for the guest channel; each serves one host process at a time. */
export const QEMU_LANES = 8;

/** @param platform As in `process.platform`. */
export function qemuFeatures(platform: NodeJS.Platform): BackendFeatures {
  return {
    laneCount: QEMU_LANES,
    accelerators: platform === "darwin" ? ["hvf", "tcg"] : ["kvm", "tcg"],
    linkKinds: ["socket", "tap"],
    diskFormats: ["raw", "qcow2"],
    keepsLanes: true,
  };
}
