// What a new private layer of an isolated disk lies on.

import type { MachineDisk } from "../backend.js";
import type { Qcow2Layer } from "./qcow2.js";

/** The layer over the newest frozen one, or over the base where there is none. */
export function layerOver(disk: Extract<MachineDisk, { mode: "isolated" }>): Qcow2Layer {
  const [newest] = disk.layers;
  const { path, sizeBytes } = disk;
  if (newest === undefined) return { path, sizeBytes, basePath: disk.basePath, baseFormat: disk.baseFormat };
  return { path, sizeBytes, basePath: newest, baseFormat: "qcow2" };
}
