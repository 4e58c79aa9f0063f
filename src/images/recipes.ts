// What each named image is made of, as data. How it is made is in build-image.ts.

import { createHash } from "node:crypto";
import type { ImageArchitecture } from "./architecture.js";

/** Everything that decides what a built image holds. A change of any of it means a rebuild. */
export interface ImageRecipe {
  readonly name: string;
  /** Debian suite, e.g. `"trixie"`. */
  readonly suite: string;
  /** Packages beside Debian's essential ones and apt. */
  readonly packages: readonly string[];
  /** dpkg `path-exclude` patterns; they stay in force in the guest. */
  readonly leaveOut: readonly string[];
  /** Virtual size of the root file system in MiB; a VM's own disk may be larger. */
  readonly rootfsSizeMib: number;
  /** Kernel modules that the agent loads at boot; what they depend on is added. */
  readonly bootModules: readonly string[];
  /** Kernel modules that are present but left for the agent to load when a device asks for them. */
  readonly spareModules: readonly string[];
}

/** Raise it when the builder's own steps change what an image holds. */
const BUILDER_VERSION = 2;

const debian: ImageRecipe = {
  name: "debian",
  suite: "trixie",
  packages: [
    "python3",
    "python3-venv",
    "python3-pip",
    "git",
    "curl",
    "ca-certificates",
    "iproute2",
    "procps",
    "openssh-server",
    // openssh-server would otherwise satisfy its dependency with the whole of systemd.
    "systemd-standalone-sysusers",
  ],
  leaveOut: ["/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/man/*"],
  rootfsSizeMib: 2048,
  bootModules: ["virtio_mmio", "virtio_blk", "virtio_net"],
  spareModules: ["vmw_vsock_virtio_transport", "overlay"],
};

/** Every image that can be built, by name. */
export const IMAGE_RECIPES: ReadonlyMap<string, ImageRecipe> = new Map([[debian.name, debian]]);

/** Changes whenever building `recipe` for `architecture` would give something else. */
export function recipeKey(recipe: ImageRecipe, architecture: ImageArchitecture): string {
  const everything = JSON.stringify([BUILDER_VERSION, architecture.debianName, architecture.kernelPackage, recipe]);
  return createHash("sha256").update(everything).digest("hex");
}
