// What differs between the processor architectures that images are built for, as data.

import { type Architecture, hostArchitecture } from "../host/architecture.js";
import type { KernelFormat } from "./kernel-format.js";

/** One processor architecture, as images see it. */
export interface ImageArchitecture {
  /** Debian's name, e.g. `"amd64"`. */
  readonly debianName: string;
  readonly kernelPackage: string;
  /** Kernel files that a VMM boots as they are, or that can be unpacked into one. */
  readonly kernelFormats: readonly KernelFormat[];
  /** Those formats in words, for error messages. */
  readonly kernelFormatsText: string;
}

const architectures: Readonly<Record<Architecture, ImageArchitecture>> = {
  x86_64: {
    debianName: "amd64",
    kernelPackage: "linux-image-cloud-amd64",
    kernelFormats: ["elf-pvh", "bzimage"],
    kernelFormatsText: "a Linux kernel: an x86-64 bzImage, or an ELF vmlinux with a PVH entry point",
  },
  aarch64: {
    debianName: "arm64",
    kernelPackage: "linux-image-cloud-arm64",
    kernelFormats: ["arm64-image", "arm64-zboot", "gzip"],
    kernelFormatsText: "a Linux kernel: an arm64 Image, plain, gzipped or EFI zboot",
  },
};

/**
 * That of this host, which its guests have too.
 *
 * @throws {HOST_UNSUPPORTED} on any that SmolVM does not know.
 */
export function imageArchitecture(): ImageArchitecture {
  return architectures[hostArchitecture()];
}
