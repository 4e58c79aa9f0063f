// The machine's disk on QEMU's command line. Paths go into JSON, where a comma is just a comma.

import type { DiskFormat, MachineDisk } from "../backend.js";

/** Name of the block node that the guest's disk is. */
export const ROOT_NODE = "root";
/** Name of the block node below an isolated disk's own layer. */
export const BELOW_NODE = "below";

/** A node of QEMU's block graph, as QMP's BlockdevOptions. */
type BlockNode = Readonly<Record<string, unknown>>;

/** Options for the disk. */
export function diskOptions(disk: MachineDisk): string[] {
  const root =
    disk.mode === "shared"
      ? { ...standalone(disk.format), file: writtenFile(disk.path) }
      : { driver: "qcow2", file: writtenFile(disk.path), backing: { "node-name": BELOW_NODE, ...below(disk) } };
  return [
    ...["-blockdev", JSON.stringify({ ...root, "node-name": ROOT_NODE, discard: "unmap" })],
    // A full host disk is the guest's I/O error; QEMU would otherwise stop the guest and wait for somebody.
    ...["-device", `virtio-blk-device,drive=${ROOT_NODE},werror=report,rerror=report`],
  ];
}

/** The chain of what is only read: the frozen layers, the newest first, and the base. */
function below(disk: Extract<MachineDisk, { mode: "isolated" }>): BlockNode {
  const base = { ...standalone(disk.baseFormat), "read-only": true, file: readFile(disk.basePath) };
  return disk.layers.reduceRight<BlockNode>(
    (backing, path) => ({ driver: "qcow2", "read-only": true, file: readFile(path), backing }),
    base,
  );
}

// Told that it has no backing file, QEMU does not open one that the header names: a header that was changed since
// the disk was accepted must not lead to files of the host.
function standalone(format: DiskFormat): BlockNode {
  return { driver: format, ...(format === "qcow2" ? { backing: null } : {}) };
}

function writtenFile(filename: string): BlockNode {
  return { driver: "file", filename, discard: "unmap" };
}

/** Shared by many VMs and never written: no lock that would make them exclude each other. */
function readFile(filename: string): BlockNode {
  return { driver: "file", filename, "read-only": true, locking: "off" };
}
