// What differs between the processor architectures that images are built for, as data.

import { arch } from "node:os";
import { SmolVMError } from "../errors/smolvm-error.js";
import type { KernelFormat } from "./kernel-format.js";

/** One processor architecture. */
export interface Architecture {
  /** Debian's name, e.g. `"amd64"`. */
  readonly debianName: string;
  readonly kernelPackage: string;
  /** Kernel files that a VMM boots as they are, or that can be unpacked into one. */
  readonly kernelFormats: readonly KernelFormat[];
  /** Those formats in words, for error messages. */
  readonly kernelFormatsText: string;
}

const architectures: Readonly<Record<string, Architecture>> = {
  x64: {
    debianName: "amd64",
    kernelPackage: "linux-image-cloud-amd64",
    kernelFormats: ["elf-pvh", "bzimage"],
    kernelFormatsText: "a Linux kernel: an x86-64 bzImage, or an ELF vmlinux with a PVH entry point",
  },
  arm64: {
    debianName: "arm64",
    kernelPackage: "linux-image-cloud-arm64",
    kernelFormats: ["arm64-image", "arm64-zboot", "gzip"],
    kernelFormatsText: "a Linux kernel: an arm64 Image, plain, gzipped or EFI zboot",
  },
};

/**
 * The architecture of this host, which is that of its guests.
 *
 * @throws {HOST_UNSUPPORTED} on any other than x64 and arm64.
 */
export function hostArchitecture(): Architecture {
  const architecture = architectures[arch()];
  if (architecture === undefined) {
    throw new SmolVMError("HOST_UNSUPPORTED", `Cannot run VMs on "${arch()}": SmolVM knows x64 and arm64`, {
      details: { architecture: arch() },
    });
  }
  return architecture;
}
