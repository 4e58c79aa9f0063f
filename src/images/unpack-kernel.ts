// Unpacks a compressed kernel to the one inside: a VMM boots that directly, and faster.

import { type FileHandle, open, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Deadline } from "../base/deadline.js";
import { SmolVMError } from "../errors/smolvm-error.js";
import { COMPRESSIONS, decompressFile } from "./decompress.js";
import { detectKernelFormat, type KernelFormat } from "./kernel-format.js";

/** Where intermediate files may go, and for how long. */
export interface UnpackOptions {
  readonly workDir: string;
  readonly deadline: Deadline;
}

/** Largest compressed kernel taken, in bytes; real ones have about 12 million. */
const PAYLOAD_LIMIT_BYTES = 512 * 1024 * 1024;

/**
 * @param path A compressed kernel file, or one that a VMM boots as it is.
 * @returns Path of a bootable file: a new one in `workDir`, or `path` itself when there is nothing to unpack.
 * @throws {IMAGE_FAILED} when the file is no kernel or its compression is unknown.
 * @throws {HOST_UNSUPPORTED} when the tool that undoes its compression is not installed.
 */
export async function unpackKernel(path: string, { workDir, deadline }: UnpackOptions): Promise<string> {
  const payload = await readPayload(path);
  if (payload === undefined) return path;

  const unpacked = join(workDir, "payload");
  if (payload.toString("latin1", 0, 4) === "\x7fELF") {
    await writeFile(unpacked, payload);
    return unpacked;
  }
  const compression = COMPRESSIONS.find(({ magic }) => payload.toString("hex", 0, magic.length / 2) === magic);
  if (compression === undefined) throw unpackError(path, "its compression is unknown");
  // The x86 build appends the unpacked size, 4 bytes, to every format but gzip (scripts/Makefile.lib, size_append).
  const data = compression.tool === "gzip" ? payload : payload.subarray(0, -4);
  await writeFile(unpacked + compression.suffix, data);
  return decompressFile(unpacked + compression.suffix, deadline);
}

/** The compressed kernel inside, or `undefined` for a format that has none. */
async function readPayload(path: string): Promise<Buffer | undefined> {
  const kernel = await open(path, "r");
  try {
    const format = await detectKernelFormat(kernel);
    if (format === undefined) throw unpackError(path, "it is no kernel");
    const place = await locatePayload(kernel, format);
    if (place === undefined) return undefined;
    const { offset, sizeBytes } = place;
    if (sizeBytes === 0 || sizeBytes > PAYLOAD_LIMIT_BYTES) throw unpackError(path, "its header makes no sense");
    const { bytesRead, buffer } = await kernel.read(Buffer.alloc(sizeBytes), 0, sizeBytes, offset);
    if (bytesRead < sizeBytes) throw unpackError(path, "it is cut short");
    return buffer;
  } finally {
    await kernel.close();
  }
}

interface Place {
  readonly offset: number;
  readonly sizeBytes: number;
}

async function locatePayload(kernel: FileHandle, format: KernelFormat): Promise<Place | undefined> {
  const head = Buffer.alloc(1024);
  await kernel.read(head, 0, head.length, 0);
  switch (format) {
    case "bzimage": {
      // Linux x86 boot protocol: setup_sects at 0x1f1, payload_offset at 0x248 from the protected-mode code on.
      const setupSectors = head.readUInt8(0x1f1) || 4;
      return { offset: (setupSectors + 1) * 512 + head.readUInt32LE(0x248), sizeBytes: head.readUInt32LE(0x24c) };
    }
    case "arm64-zboot": // drivers/firmware/efi/libstub/zboot-header.S
      return { offset: head.readUInt32LE(8), sizeBytes: head.readUInt32LE(12) };
    case "gzip":
      return { offset: 0, sizeBytes: (await kernel.stat()).size };
    default:
      return undefined;
  }
}

function unpackError(path: string, reason: string): SmolVMError {
  return new SmolVMError("IMAGE_FAILED", `Cannot unpack kernel "${path}": ${reason}`, { details: { path, reason } });
}
