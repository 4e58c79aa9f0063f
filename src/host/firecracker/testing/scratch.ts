// Directories for one test, and programs in them.

import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { onTestFinished } from "vitest";

/** A new directory, removed when the running test ends. */
export function scratch(): string {
  const directory = mkdtempSync(join(tmpdir(), "smolvm-firecracker-"));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** Writes an executable file. @returns Its path. */
export function program(path: string, text: string): string {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
  chmodSync(path, 0o755);
  return path;
}

/** Every file and directory below one, relative to it; empty when it is not there. */
export function tree(directory: string): readonly string[] {
  try {
    return readdirSync(directory, { recursive: true, encoding: "utf8" }).sort();
  } catch {
    return [];
  }
}
