// TypeScript to dist. Incremental: an unchanged tree compiles in a moment.

import { chmodSync, existsSync, readdirSync, rmSync } from "node:fs";
import { join, relative } from "node:path";
import { mustRun, nodeProgram } from "./child.mjs";
import { ROOT } from "./root.mjs";

const DIST = join(ROOT, "dist");
/** The command line's program, which package.json names as `bin`. */
const CLI = join(DIST, "cli/main.js");
/** In dist, so that removing dist also removes what tsc believes to be up to date. */
const BUILD_INFO = join(DIST, ".tsbuildinfo");

/** Compiles src to dist and removes what sources that are gone had left there. */
export async function compileTypeScript() {
  removeOrphans();
  const incremental = ["--incremental", "--tsBuildInfoFile", BUILD_INFO];
  await mustRun(nodeProgram("typescript/bin/tsc", "-p", "tsconfig.json", "--noEmitOnError", ...incremental));
  if (existsSync(CLI)) chmodSync(CLI, 0o755);
}

/** Removes all of dist. */
export function removeDist() {
  rmSync(DIST, { recursive: true, force: true });
}

function removeOrphans() {
  if (!existsSync(DIST)) return;
  for (const entry of readdirSync(DIST, { recursive: true, withFileTypes: true })) {
    const match = /^(.+?)(?:\.d\.ts|\.js|\.js\.map)$/.exec(entry.name);
    if (!entry.isFile() || match === null) continue;
    const below = relative(DIST, entry.parentPath ?? entry.path);
    if (existsSync(join(ROOT, "src", below, `${match[1]}.ts`))) continue;
    rmSync(join(DIST, below, entry.name));
    rmSync(BUILD_INFO, { force: true });
  }
}
