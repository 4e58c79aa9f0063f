// What Firecracker does not have is refused before anything is started or written.

import { access, constants, open } from "node:fs/promises";
import { fileError } from "../../errors/file-error.js";
import { SmolVMError } from "../../errors/smolvm-error.js";
import type { MachineDisk, MachineMemory, MachineSpec } from "../backend.js";
import { VCPUS_LIMIT } from "./features.js";
import { kernelCommandLine } from "./kernel-command-line.js";
import type { Platform } from "./platform.js";

/** Longest kernel command line, in bytes: 2048 with its NUL (CMDLINE_MAX_SIZE in src/vmm/src/arch). */
const COMMAND_LINE_LIMIT_BYTES = 2047;
/** What Firecracker appends to it: one word of 34 bytes for each of four devices, and `pci=off`. */
const APPENDED_BYTES = 160;

/** @throws {UNSUPPORTED} */
export function requireSupported(machine: MachineSpec, platform: Platform): void {
  const { accelerator, vcpuCount, disk, network } = machine;
  requireRaw(disk);
  if (accelerator !== "kvm") throw unsupported("accel", accelerator, 'accelerator "kvm" alone');
  if (vcpuCount > VCPUS_LIMIT) throw unsupported("vcpuCount", vcpuCount, `at most ${VCPUS_LIMIT} vCPUs`);
  const { link } = network ?? {};
  if (link !== undefined && link.kind !== "tap") throw unsupported("network", link.kind, 'network "tap" or "none"');
  const sizeBytes = Buffer.byteLength(kernelCommandLine(platform, machine.bootArgs));
  if (sizeBytes + APPENDED_BYTES > COMMAND_LINE_LIMIT_BYTES) {
    throw unsupported("bootArgs", machine.bootArgs, `a kernel command line of ${COMMAND_LINE_LIMIT_BYTES} bytes`);
  }
}

/** @throws {UNSUPPORTED} */
export function requireRaw(disk: MachineDisk): void {
  const format = disk.mode === "isolated" ? disk.baseFormat : disk.format;
  if (format === "raw") return;
  throw new SmolVMError("UNSUPPORTED", `Firecracker has disks in format raw alone, not ${format}`, {
    details: { field: "rootfsPath", value: format },
    hint: "Convert it with `qemu-img convert -O raw`, or use backend qemu.",
  });
}

/**
 * @throws {UNSUPPORTED} when it is no kernel that this architecture's Firecracker boots.
 * @throws {STORAGE_FAILED}
 */
export async function requireKernel(path: string, { kernelMagic, kernelFormat }: Platform): Promise<void> {
  const { offset, bytes } = kernelMagic;
  const found = Buffer.alloc(bytes.length);
  try {
    const file = await open(path, "r");
    try {
      await file.read(found, 0, found.length, offset);
    } finally {
      await file.close();
    }
  } catch (error) {
    throw fileError("Reading a kernel", path, error);
  }
  if (found.equals(bytes)) return;
  throw new SmolVMError("UNSUPPORTED", `Firecracker does not boot "${path}": it takes ${kernelFormat}`, {
    details: { field: "kernelPath", path },
  });
}

/** @throws {STORAGE_FAILED} when a file of an image is not there, naming it. */
export async function requireImage(memory: MachineMemory): Promise<void> {
  if (memory.from !== "image") return;
  for (const path of [memory.path, memory.devicesPath]) {
    try {
      await access(path, constants.R_OK);
    } catch (error) {
      throw fileError("Opening a frozen machine", path, error);
    }
  }
}

function unsupported(field: string, value: unknown, has: string): SmolVMError {
  return new SmolVMError("UNSUPPORTED", `Firecracker has ${has}, not ${String(value)}`, {
    details: { field, value },
    hint: 'Use backend "qemu" for that.',
  });
}
