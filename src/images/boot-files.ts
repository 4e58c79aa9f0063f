// Collects the three files that one VM boots from: the user's own where given, a named image's for the rest.

import { createHash } from "node:crypto";
import { SmolVMError } from "../errors/smolvm-error.js";
import type { CacheContext } from "./cache-context.js";
import type { CustomFiles, DiskFormat } from "./custom-files.js";
import { provideKernel } from "./custom-kernel.js";
import { fileIdentity } from "./file-identity.js";
import type { OpenImage } from "./image-provider.js";
import { provideInitramfs } from "./initramfs.js";

/** The files one VM boots from, whoever they came from. */
export interface BootFiles {
  readonly kernelPath: string;
  readonly initrdPath: string;
  readonly rootfsPath: string;
  readonly rootfsFormat: DiskFormat;
  /** Size of the disk in the file; a VM's own may be larger. */
  readonly rootfsSizeBytes: number;
  /** The named image that has a part in it. */
  readonly image: { readonly name: string; readonly digest: string } | undefined;
  /** Changes whenever the content of one of the three files does: part of a template's key. */
  readonly identity: string;
}

/** Where the files come from. */
export interface BootSources {
  readonly custom: CustomFiles;
  /** May be missing only when `custom` has both kernel and root file system. */
  readonly image: OpenImage | undefined;
  readonly agentPath: string;
}

/** Collects them, making what has to be made. */
export async function collectBootFiles(sources: BootSources, cache: CacheContext): Promise<BootFiles> {
  const { custom, image, agentPath } = sources;
  const kernel = await chooseKernel(sources, cache);
  const rootfs = custom.rootfs ?? imageRootfs(image);
  // A user's kernel together with a user's initrd brings its own modules.
  const bringsModules = custom.kernel !== undefined && custom.initrd !== undefined;
  const modulesPath = bringsModules ? undefined : image?.modulesPath;
  const parts = { agentPath, modulesPath, userInitrdPath: custom.initrd?.path };
  const initrdPath = await provideInitramfs(parts, cache);
  // Paths inside the cache name their content.
  const rootfsIdentity = custom.rootfs === undefined ? rootfs.path : await fileIdentity(rootfs.path);
  const identities = [kernel.identity, initrdPath, rootfsIdentity];
  return {
    kernelPath: kernel.path,
    initrdPath,
    rootfsPath: rootfs.path,
    rootfsFormat: rootfs.format,
    rootfsSizeBytes: rootfs.sizeBytes,
    image: image === undefined ? undefined : { name: image.name, digest: image.digest },
    identity: createHash("sha256").update(identities.join("\n")).digest("hex"),
  };
}

async function chooseKernel({ custom, image }: BootSources, cache: CacheContext) {
  if (custom.kernel !== undefined) return provideKernel(custom.kernel, cache);
  const { kernelPath, digest } = required(image);
  return { path: kernelPath, identity: digest };
}

function imageRootfs(image: OpenImage | undefined): NonNullable<CustomFiles["rootfs"]> {
  const { rootfsPath, rootfsSizeBytes } = required(image);
  return { path: rootfsPath, format: "raw", sizeBytes: rootfsSizeBytes };
}

function required(image: OpenImage | undefined): OpenImage {
  if (image === undefined) throw new SmolVMError("INTERNAL", "Cannot collect boot files: no image was opened");
  return image;
}
