// What shapes a machine's hardware, as text. It is made from the command line itself, so that an option that is new
// or different there can never be missed here.

import { readFileSync } from "node:fs";
import { cpus } from "node:os";
import type { MachineDisk, MachineSpec } from "../backend.js";
import { machineArgv } from "./argv.js";

/** Stands for a path or an address that differs from VM to VM. */
const ANY = "/any";
const ANY_MAC = "52:54:00:00:00:00";

/** See {@link Backend.shapeOf}. */
export function shapeOf(machine: MachineSpec): string {
  const argv = machineArgv("qemu", {
    ...machine,
    vmId: "any",
    kernelPath: ANY,
    initrdPath: ANY,
    runtimeDir: ANY,
    // Where memory comes from, and what is behind a network device or a disk, is not the guest's to see.
    memory: { from: "boot" },
    disk: anyDisk(machine.disk),
    network: machine.network === undefined ? undefined : { link: undefined, macAddress: ANY_MAC },
  });
  return [...argv, `disk ${sizeOf(machine.disk)}`, ...hostProcessor(machine.accelerator)].join("\n");
}

function anyDisk(disk: MachineDisk): MachineDisk {
  if (disk.mode === "shared") return { mode: "shared", path: ANY, format: "raw" };
  return { mode: "isolated", path: ANY, layers: [], basePath: ANY, baseFormat: "raw", sizeBytes: disk.sizeBytes };
}

/** A shared disk's size is its file's, which can change while no VM runs: nothing is known. */
function sizeOf(disk: MachineDisk): string {
  return disk.mode === "isolated" ? String(disk.sizeBytes) : "shared";
}

/** The processor that a guest sees is the host's own where instructions are not emulated. */
export function hostProcessor(accelerator: MachineSpec["accelerator"]): string[] {
  if (accelerator === "tcg") return [];
  return [cpus()[0]?.model ?? "unknown", processorFlags()];
}

/** Microcode and the host's kernel may take features away from the same model. */
function processorFlags(): string {
  try {
    return /^flags\s*:.*$/m.exec(readFileSync("/proc/cpuinfo", "latin1"))?.[0] ?? "";
  } catch {
    return ""; // macOS has no such file.
  }
}
