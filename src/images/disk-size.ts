// How large a disk the guest sees in a disk file, or why that file cannot be used.

import type { FileHandle } from "node:fs/promises";

/** The virtual size, or what an acceptable file would have been. */
export type DiskSize = { readonly sizeBytes: number } | { readonly expected: string };

const SECTOR_BYTES = 512;

/** Enough of a qcow2 header for the fields below, in bytes. */
const QCOW2_HEAD_BYTES = 104;
const QCOW2_MAGIC = "QFI\xfb";
/** Incompatible feature bit: guest data is in another file, named in the header. */
const QCOW2_EXTERNAL_DATA = 1n << 2n;

/** A raw disk: the file is the disk. */
export async function rawDiskSize(file: FileHandle): Promise<DiskSize> {
  const { size } = await file.stat();
  if (size > 0 && size % SECTOR_BYTES === 0) return { sizeBytes: size };
  return { expected: `a raw disk: its size a positive multiple of ${SECTOR_BYTES} bytes; this has ${size}` };
}

/** A qcow2 disk (QEMU's docs/interop/qcow2.rst). One that names another file of the host is refused. */
export async function qcow2DiskSize(file: FileHandle): Promise<DiskSize> {
  const { bytesRead, buffer: head } = await file.read(Buffer.alloc(QCOW2_HEAD_BYTES), 0, QCOW2_HEAD_BYTES, 0);
  const isQcow2 = bytesRead >= 72 && head.toString("latin1", 0, 4) === QCOW2_MAGIC;
  if (!isQcow2) return { expected: "a qcow2 disk, as the file name says" };
  const hasBackingFile = head.readBigUInt64BE(8) !== 0n;
  const hasDataFile = head.readUInt32BE(4) >= 3 && (head.readBigUInt64BE(72) & QCOW2_EXTERNAL_DATA) !== 0n;
  if (hasBackingFile || hasDataFile) {
    return { expected: "a qcow2 disk that needs no other file (`qemu-img convert` makes one)" };
  }
  const sizeBytes = Number(head.readBigUInt64BE(24));
  if (sizeBytes > 0 && sizeBytes % SECTOR_BYTES === 0 && Number.isSafeInteger(sizeBytes)) return { sizeBytes };
  return { expected: "a qcow2 disk with a size that makes sense" };
}
