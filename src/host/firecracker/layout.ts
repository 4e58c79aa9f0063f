// Where an installed Firecracker and unfinished installations are, below the cache directory.

import { join } from "node:path";
import type { Architecture } from "../architecture.js";
import type { HostPaths } from "../paths.js";

/** Directories of one cache; nothing is created by asking for them. */
export interface FirecrackerLayout {
  readonly cacheDir: string;
  /** Holds everything of this subject. */
  readonly rootDir: string;
  /** `<pid>-<tag>-<random>/`: unfinished installations, see work-directory.ts. */
  readonly stagingDir: string;
}

export function firecrackerLayout({ cacheDir }: Pick<HostPaths, "cacheDir">): FirecrackerLayout {
  const rootDir = join(cacheDir, "firecracker");
  return { cacheDir, rootDir, stagingDir: join(rootDir, "staging") };
}

/** Where the two programs of one release are: a new version never replaces the one that VMs run with. */
export function releaseDirectory(layout: FirecrackerLayout, version: string, architecture: Architecture): string {
  return join(layout.rootDir, `v${version}-${architecture}`);
}
