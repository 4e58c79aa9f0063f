// Looks at the kernel, initrd and disk that a user brings, before anything is made of them.

import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { extname, resolve } from "node:path";
import { invalidConfig } from "../errors/invalid-config.js";
import { imageArchitecture } from "./architecture.js";
import { qcow2DiskSize, rawDiskSize } from "./disk-size.js";
import { detectKernelFormat, type KernelFormat } from "./kernel-format.js";

/** How a disk file is to be read. */
export type DiskFormat = "raw" | "qcow2";

/** What the user gave. */
export interface CustomFilesRequest {
  readonly kernelPath?: string | undefined;
  readonly initrdPath?: string | undefined;
  readonly rootfsPath?: string | undefined;
  /** `"shared"` lets the guest write to `rootfsPath` itself. Default `"isolated"`. */
  readonly diskMode?: "isolated" | "shared" | undefined;
}

/** What was found; all paths are absolute. */
export interface CustomFiles {
  readonly kernel?: { readonly path: string; readonly format: KernelFormat };
  readonly initrd?: { readonly path: string };
  readonly rootfs?: { readonly path: string; readonly format: DiskFormat; readonly sizeBytes: number };
}

/**
 * @throws {INVALID_CONFIG} naming the field of the first file that cannot be used, and why.
 */
export async function inspectCustomFiles(request: CustomFilesRequest): Promise<CustomFiles> {
  const { kernelPath, initrdPath, rootfsPath } = request;
  return {
    ...(kernelPath === undefined ? {} : { kernel: await inspectKernel(kernelPath) }),
    ...(initrdPath === undefined ? {} : { initrd: await inspectInitrd(initrdPath) }),
    ...(rootfsPath === undefined ? {} : { rootfs: await inspectRootfs(rootfsPath, request.diskMode === "shared") }),
  };
}

async function inspectKernel(path: string) {
  const { kernelFormats, kernelFormatsText } = imageArchitecture();
  return withFile({ field: "kernelPath", path }, async (file, absolute) => {
    const format = await detectKernelFormat(file);
    if (format === undefined || !kernelFormats.includes(format)) {
      throw invalidConfig({ field: "kernelPath", value: path, expected: kernelFormatsText });
    }
    return { path: absolute, format };
  });
}

async function inspectInitrd(path: string) {
  return withFile({ field: "initrdPath", path }, async (file, absolute) => {
    if ((await file.stat()).size === 0) {
      throw invalidConfig({ field: "initrdPath", value: path, expected: "a file that is not empty" });
    }
    return { path: absolute };
  });
}

async function inspectRootfs(path: string, isWritten: boolean) {
  return withFile({ field: "rootfsPath", path, isWritten }, async (file, absolute) => {
    const format = diskFormat(absolute);
    const size = await (format === "qcow2" ? qcow2DiskSize(file) : rawDiskSize(file));
    if ("expected" in size) throw invalidConfig({ field: "rootfsPath", value: path, expected: size.expected });
    return { path: absolute, format, sizeBytes: size.sizeBytes };
  });
}

/**
 * By the file's name, never by its content: a guest that writes a qcow2 header with a backing file into its
 * raw disk must not thereby be able to read that file of the host at the next start.
 */
function diskFormat(path: string): DiskFormat {
  return extname(path) === ".qcow2" ? "qcow2" : "raw";
}

interface NamedFile {
  readonly field: string;
  readonly path: string;
  readonly isWritten?: boolean;
}

/** Opens a regular file for `look`. Never waits, not even for a FIFO that nobody writes to. */
async function withFile<T>(
  { field, path, isWritten = false }: NamedFile,
  look: (file: FileHandle, absolute: string) => Promise<T>,
): Promise<T> {
  const absolute = resolve(path);
  let file: FileHandle;
  try {
    file = await open(absolute, (isWritten ? constants.O_RDWR : constants.O_RDONLY) | constants.O_NONBLOCK);
  } catch (error) {
    throw invalidConfig({ field, value: path, expected: expectedFile(error, isWritten) }, error);
  }
  try {
    const info = await file.stat();
    if (!info.isFile()) {
      const what = info.isDirectory() ? "a directory" : "a device, socket or pipe";
      throw invalidConfig({ field, value: path, expected: `a regular file; this is ${what}` });
    }
    return await look(file, absolute);
  } finally {
    await file.close();
  }
}

function expectedFile(error: unknown, isWritten: boolean): string {
  switch ((error as NodeJS.ErrnoException).code) {
    case "ENOENT":
    case "ENOTDIR":
      return "a file that exists";
    case "EISDIR":
      return "a regular file; this is a directory";
    case "EACCES":
    case "EPERM":
    case "EROFS":
      return isWritten ? "a file that you may read and write (diskMode is shared)" : "a file that you may read";
    default:
      return "the path of a file that can be opened";
  }
}
