// Which Firecracker is installed: the pinned release, its archives and their sha256. Data only.

import type { Architecture } from "../architecture.js";
import type { FirecrackerProgramName } from "./version.js";

/** A release of Firecracker whose archives are known. */
export interface FirecrackerRelease {
  /** Without the `v`, e.g. `1.16.1`. */
  readonly version: string;
  /** sha256 of each architecture's archive, in lower-case hexadecimal. One without a value is not installed. */
  readonly sha256: Readonly<Partial<Record<Architecture, string>>>;
}

/**
 * The pinned release. The values are those that the project publishes beside its archives (`*.tgz.sha256.txt`), as three
 * projects that do not depend on each other have pinned them, for both architectures:
 *
 * - sudo-su-coffee/porter, release/firecracker-versions.json
 * - BlackRainLabs/Corvus-Node, guest/bake.sh
 * - MdSadiqMd/firemig, scripts/setup/setup-assets.sh
 */
export const PINNED_RELEASE: FirecrackerRelease = {
  version: "1.16.1",
  sha256: {
    x86_64: "382a02a869e4d6d5cb14c40577f9545e8458021ea8b0b2d3fc10ec14d9c242e6",
    aarch64: "8d0e69f6d6f9a1724551f607f18504052c16c1828ee3d4d7b6e6c73380871e0e",
  },
};

/** Where the project's releases are. A mirror has the same tree below another address. */
export const RELEASES_URL = "https://github.com/firecracker-microvm/firecracker/releases/download";

/** The address of a release's archive. */
export function archiveUrl(baseUrl: string, version: string, architecture: Architecture): string {
  return `${baseUrl.replace(/\/+$/, "")}/v${version}/firecracker-v${version}-${architecture}.tgz`;
}

/** Names of the two programs in the archive, as the project's `tools/release.sh` makes it. */
export function archiveEntries(
  version: string,
  architecture: Architecture,
): Readonly<Record<FirecrackerProgramName, string>> {
  const suffix = `v${version}-${architecture}`;
  return {
    firecracker: `release-${suffix}/firecracker-${suffix}`,
    jailer: `release-${suffix}/jailer-${suffix}`,
  };
}
