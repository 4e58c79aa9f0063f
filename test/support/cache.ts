// A cache directory for one test file: the host's image in it, and no template. What is done to it harms nobody else.

import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";
import { hostPaths } from "./smolvm.js";

/** One cache directory of its own. */
export interface TestCache {
  readonly cacheDir: string;
  /** Directories of its templates. */
  templates(): string[];
  /** What builds, templates and removals have not finished. */
  staging(): string[];
}

/**
 * Makes a cache directory, `SMOLVM_CACHE_DIR` of this file and its children. Call it before `testState`.
 *
 * @param cacheDir Where; a new temporary directory by default.
 */
export function testCache(cacheDir = mkdtempSync(join(tmpdir(), "smolvm-vmcache-"))): TestCache {
  afterAll(() => rmSync(cacheDir, { recursive: true, force: true }));
  fillCache(cacheDir);
  process.env["SMOLVM_CACHE_DIR"] = cacheDir;
  return {
    cacheDir,
    templates: () => entries(join(cacheDir, "templates")).map((name) => join(cacheDir, "templates", name)),
    staging: () => entries(join(cacheDir, "staging")),
  };
}

/** Copies this host's images; hard links would change what stat(2) says of the originals. */
export function fillCache(cacheDir: string): void {
  mkdirSync(cacheDir, { recursive: true });
  for (const name of ["images", "names"]) {
    const from = join(hostPaths().cacheDir, name);
    if (existsSync(from)) execFileSync("cp", ["-a", "--sparse=always", from, cacheDir]);
  }
}

function entries(directory: string): string[] {
  return existsSync(directory) ? readdirSync(directory) : [];
}
