// Is there room for images, overlays and templates?

import { statfs } from "node:fs/promises";
import { dirname } from "node:path";
import type { CheckContext, CheckResult, HostCheck } from "./check.js";

const GIB = 1024 ** 3;
/** Default image, kernel and a build's staging area, measured, with room for a few VMs, in bytes. */
const COMFORTABLE_BYTES = 3 * GIB;
/** Below this not even one overlay is safe, in bytes. */
const LEAST_BYTES = GIB;

/** Free space where state and images live. */
export const diskSpaceCheck: HostCheck = {
  id: "disk-space",
  title: "Disk space",
  requiredFor: "run",
  run: checkDiskSpace,
};

async function checkDiskSpace({ paths }: CheckContext): Promise<CheckResult> {
  const places = await Promise.all(
    [paths.stateDir, paths.cacheDir].map(async (dir) => ({ dir, freeBytes: await freeBytes(dir) })),
  );
  const found = places.map(({ dir, freeBytes: free }) => `${(free / GIB).toFixed(1)} GiB at ${dir}`).join(", ");
  const leastBytes = Math.min(...places.map((place) => place.freeBytes));
  if (leastBytes >= COMFORTABLE_BYTES) return { status: "ok", found };
  return {
    status: leastBytes < LEAST_BYTES ? "fail" : "warn",
    found: `${found}; ${COMFORTABLE_BYTES / GIB} GiB is needed`,
    remedy: "Free some space (`smolvm image prune`), or point SMOLVM_STATE_DIR and SMOLVM_CACHE_DIR elsewhere.",
  };
}

/** Free bytes for an ordinary user in the nearest directory that exists. */
async function freeBytes(dir: string): Promise<number> {
  for (let at = dir; ; at = dirname(at)) {
    try {
      const { bavail, bsize } = await statfs(at);
      return bavail * bsize;
    } catch (error) {
      if (at === dirname(at)) throw error;
    }
  }
}
