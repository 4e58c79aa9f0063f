// A directory of the host for one test, and what lies in it.

import { lstatSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";

/** An empty directory that is removed after the test. */
export function scratch(): string {
  const path = mkdtempSync(join(tmpdir(), "smolvm-transfer-"));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** Everything below a directory, by path: a file's content, `-> target`, or `/` for a directory. */
export function contents(root: string): Record<string, string> {
  const found: Record<string, string> = {};
  const look = (path: string) => {
    for (const name of readdirSync(join(root, path)).sort()) {
      const inner = path === "" ? name : `${path}/${name}`;
      const stats = lstatSync(join(root, inner));
      if (stats.isSymbolicLink()) found[inner] = `-> ${readlinkSync(join(root, inner))}`;
      else if (stats.isFile()) found[inner] = readFileSync(join(root, inner), "utf8");
      else found[inner] = stats.isDirectory() ? "/" : "special";
      if (stats.isDirectory()) look(inner);
    }
  };
  look("");
  return found;
}
