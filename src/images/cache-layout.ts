// Names of directories and files in the cache. docs/on-disk.md lists them.

import { join } from "node:path";

/** In an image: the root file system. */
export const ROOTFS_FILE = "rootfs.ext4";
/** In an image, and below `kernels`: the kernel, unpacked for a fast boot. */
export const KERNEL_FILE = "vmlinux";
/** In an image: its kernel modules as a piece of an initramfs. */
export const MODULES_FILE = "modules.cpio";
/** Below `initramfs`: a complete one. */
export const INITRAMFS_FILE = "initramfs.cpio";
/** In a template: the guest's memory. */
export const TEMPLATE_MEMORY_FILE = "memory";
/** In a template: state of vCPUs and devices. */
export const TEMPLATE_DEVICES_FILE = "devices";
/** In a template: what its boot wrote, as a layer over the root file system. */
export const TEMPLATE_DISK_FILE = "disk.qcow2";

/** The directories of one cache. */
export interface CacheLayout {
  /** `<digest>/`: built images. */
  readonly imagesDir: string;
  /** `<name>.json`: which image a name stands for. */
  readonly namesDir: string;
  /** `<key>/`: initramfs, by what they are made of. */
  readonly initramfsDir: string;
  /** `<sha256>/`: users' kernels, unpacked, by the packed file's content. */
  readonly kernelsDir: string;
  /** `<key>/`: machines frozen after their boot, by what shaped them. */
  readonly templatesDir: string;
  /** Unfinished work, see staging.ts. */
  readonly stagingDir: string;
}

/** Where things are below `cacheDir`; nothing is created. */
export function cacheLayout(cacheDir: string): CacheLayout {
  return {
    imagesDir: join(cacheDir, "images"),
    namesDir: join(cacheDir, "names"),
    initramfsDir: join(cacheDir, "initramfs"),
    kernelsDir: join(cacheDir, "kernels"),
    templatesDir: join(cacheDir, "templates"),
    stagingDir: join(cacheDir, "staging"),
  };
}
