// What shapes a machine's hardware, as text. It is made from the requests themselves, so that a field that is new or
// different there can never be missed here.

import type { MachineDisk, MachineSpec } from "../backend.js";
import { hostProcessor } from "../qemu/shape.js";
import { startRequests } from "./configuration.js";
import type { Platform } from "./platform.js";

const ANY_MAC = "02:00:00:00:00:00";

/** See {@link Backend.shapeOf}. */
export function shapeOf(machine: MachineSpec, platform: Platform): string {
  const network = machine.network === undefined ? undefined : { link: undefined, macAddress: ANY_MAC };
  // Where memory comes from, and what is behind a network device, is not the guest's to see.
  const requests = startRequests({ ...machine, memory: { from: "boot" }, network }, platform);
  const lines = requests.map(({ path, body }) => `${path} ${JSON.stringify(body)}`);
  return [...lines, `disk ${sizeOf(machine.disk)}`, ...hostProcessor(machine.accelerator)].join("\n");
}

/** A shared disk's size is its file's, which can change while no VM runs: nothing is known. */
function sizeOf(disk: MachineDisk): string {
  return disk.mode === "isolated" ? String(disk.sizeBytes) : "shared";
}
