// Says which kind of kernel image a file is, from its magic numbers. It changes nothing.

import type { FileHandle } from "node:fs/promises";

/** `elf` is an ELF file without a PVH entry point: QEMU cannot boot it directly. */
export type KernelFormat = "elf-pvh" | "elf" | "bzimage" | "arm64-image" | "arm64-zboot" | "gzip";

/** Enough for the ELF header, the x86 setup header and arm64's header, in bytes. */
const HEAD_BYTES = 4096;
/** Most program headers looked at; kernels have about five. */
const PROGRAM_HEADERS_LIMIT = 64;
/** Largest note segment looked at, in bytes. */
const NOTES_LIMIT_BYTES = 64 * 1024;
/** `PT_NOTE`, elf(5). */
const PROGRAM_HEADER_NOTE = 4;
/** `XEN_ELFNOTE_PHYS32_ENTRY`, the PVH entry point (Xen's public/elfnote.h). */
const NOTE_PVH_ENTRY = 18;

/** The format of an open file, or `undefined` when it is no kernel that we know. */
export async function detectKernelFormat(file: FileHandle): Promise<KernelFormat | undefined> {
  const head = await readAt(file, 0, HEAD_BYTES);
  if (head.subarray(0, 4).equals(Buffer.from("\x7fELF", "latin1"))) {
    return (await hasPvhEntry(file, head)) ? "elf-pvh" : "elf";
  }
  // Linux x86 boot protocol: boot_flag at 0x1fe, header "HdrS" at 0x202.
  if (head.length >= 0x206 && head.readUInt16LE(0x1fe) === 0xaa55 && hasText(head, 0x202, "HdrS")) return "bzimage";
  if (hasText(head, 0, "MZ") && hasText(head, 4, "zimg")) return "arm64-zboot";
  // Linux arm64 booting.rst: magic at 56.
  if (hasText(head, 56, "ARM\x64")) return "arm64-image";
  return head.length > 2 && head.readUInt16BE(0) === 0x1f8b ? "gzip" : undefined;
}

async function hasPvhEntry(file: FileHandle, head: Buffer): Promise<boolean> {
  const is64BitLittleEndian = head.length >= 64 && head[4] === 2 && head[5] === 1;
  if (!is64BitLittleEndian) return false;
  const tableOffset = Number(head.readBigUInt64LE(32));
  const entryBytes = head.readUInt16LE(54);
  const count = Math.min(head.readUInt16LE(56), PROGRAM_HEADERS_LIMIT);
  if (entryBytes < 56) return false;
  const table = await readAt(file, tableOffset, count * entryBytes);
  for (let at = 0; at + entryBytes <= table.length; at += entryBytes) {
    if (table.readUInt32LE(at) !== PROGRAM_HEADER_NOTE) continue;
    const offset = Number(table.readBigUInt64LE(at + 8));
    const sizeBytes = Math.min(Number(table.readBigUInt64LE(at + 32)), NOTES_LIMIT_BYTES);
    if (hasPvhNote(await readAt(file, offset, sizeBytes))) return true;
  }
  return false;
}

function hasPvhNote(notes: Buffer): boolean {
  for (let at = 0; at + 12 <= notes.length; ) {
    const nameBytes = notes.readUInt32LE(at);
    const dataBytes = notes.readUInt32LE(at + 4);
    if (notes.readUInt32LE(at + 8) === NOTE_PVH_ENTRY && hasText(notes, at + 12, "Xen\0")) return true;
    at += 12 + align4(nameBytes) + align4(dataBytes);
  }
  return false;
}

function align4(sizeBytes: number): number {
  return Math.ceil(sizeBytes / 4) * 4;
}

function hasText(bytes: Buffer, offset: number, text: string): boolean {
  return bytes.toString("latin1", offset, offset + text.length) === text;
}

async function readAt(file: FileHandle, offset: number, sizeBytes: number): Promise<Buffer> {
  if (!Number.isSafeInteger(offset) || sizeBytes <= 0) return Buffer.alloc(0);
  const { bytesRead, buffer } = await file.read(Buffer.alloc(sizeBytes), 0, sizeBytes, offset);
  return buffer.subarray(0, bytesRead);
}
