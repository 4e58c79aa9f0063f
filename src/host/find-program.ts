// Finds programs the way a child process would, without running them.

import { accessSync, constants, statSync } from "node:fs";
import { isAbsolute, join } from "node:path";
import { searchPath } from "./paths.js";

/**
 * The file that running `name` would execute.
 *
 * @param name Program name, or an absolute path.
 * @returns Its absolute path, or `undefined` when nothing executable is there.
 */
export function findProgram(name: string): string | undefined {
  const candidates = isAbsolute(name) ? [name] : searchPath().map((dir) => join(dir, name));
  return candidates.find(isExecutableFile);
}

function isExecutableFile(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}
