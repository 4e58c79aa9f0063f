// Where a VMM's files are. It is given relative names alone, the same ones in every VM: a frozen machine remembers the
// path of its disk, and is to find its own clone's there.

import { lstatSync, readlinkSync } from "node:fs";
import { basename, join } from "node:path";

/** Names in the VMM's own directory, which it runs in. */
export const NAMES = {
  api: "api",
  vsock: "vsock",
  kernel: "kernel",
  initrd: "initrd",
  disk: "disk",
  memory: "memory",
  devices: "devices",
  /** What is being saved. */
  savedMemory: "saved-memory",
  savedDevices: "saved-devices",
} as const;

/** The VMM's own directory in the runtime directory: a directory, or a link to the root of its jail. */
const VMM_DIRECTORY = "vmm";
/** A link in the runtime directory to where the memory of a machine that is recorded will be. */
const RECORDING = "vmm-recording";

export function vmmDirectory(runtimeDir: string): string {
  return join(runtimeDir, VMM_DIRECTORY);
}

export function apiSocket(runtimeDir: string): string {
  return join(vmmDirectory(runtimeDir), NAMES.api);
}

export function vsockSocket(runtimeDir: string): string {
  return join(vmmDirectory(runtimeDir), NAMES.vsock);
}

export function recordingLink(runtimeDir: string): string {
  return join(runtimeDir, RECORDING);
}

/** The root of the VMM's jail; `undefined` when it has none, or was never started. */
export function jailRootOf(runtimeDir: string): string | undefined {
  const path = vmmDirectory(runtimeDir);
  try {
    return lstatSync(path).isSymbolicLink() ? readlinkSync(path) : undefined;
  } catch {
    return undefined;
  }
}

/**
 * The name that Firecracker knows itself by: letters, digits and `-`, at most 64 (src/utils/src/validators.rs). Runtime
 * directories have random names that fit.
 */
export function instanceId(runtimeDir: string): string {
  return basename(runtimeDir)
    .replaceAll(/[^A-Za-z0-9-]/g, "-")
    .slice(-64);
}
