// The environment of a VM's commands, in a file that only its owner can read: never in the database.

import { randomBytes } from "node:crypto";
import { closeSync, fsyncSync, openSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileError } from "../errors/file-error.js";

/** Name of the file in the VM's directory. */
export const ENVIRONMENT_FILE = "environment.json";

/** Environment variables by name. */
export type Environment = Readonly<Record<string, string>>;

/** Writes the file of a new VM. @throws {STORAGE_FAILED} */
export async function writeEnvironment(directory: string, env: Environment): Promise<void> {
  const path = join(directory, ENVIRONMENT_FILE);
  await writeFile(path, JSON.stringify(env), { mode: 0o600, flag: "wx" }).catch((error: unknown) => {
    throw fileError("Write the environment of a VM", path, error);
  });
}

/** @throws {STORAGE_FAILED} */
export async function readEnvironment(directory: string): Promise<Environment> {
  const path = join(directory, ENVIRONMENT_FILE);
  try {
    return JSON.parse(await readFile(path, "utf8")) as Environment;
  } catch (error) {
    throw fileError("Read the environment of a VM", path, error);
  }
}

/**
 * Replaces the file in one step: a failure, also a power cut, leaves the old one. Synchronous, for use in a transaction.
 *
 * @param change Takes what is in it and gives what is to be in it. @throws {STORAGE_FAILED}
 */
export function replaceEnvironment(directory: string, change: (env: Environment) => Environment): void {
  const path = join(directory, ENVIRONMENT_FILE);
  const draft = `${path}.${randomBytes(4).toString("hex")}.tmp`;
  const text = JSON.stringify(change(readNow(path)));
  try {
    const file = openSync(draft, "wx", 0o600);
    try {
      writeFileSync(file, text); // All of it, or an error; one write may take a part.
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(draft, path);
    syncDirectory(directory);
  } catch (error) {
    rmSync(draft, { force: true });
    throw fileError("Write the environment of a VM", path, error);
  }
}

function syncDirectory(path: string): void {
  const directory = openSync(path, "r");
  try {
    fsyncSync(directory);
  } finally {
    closeSync(directory);
  }
}

function readNow(path: string): Environment {
  try {
    return JSON.parse(readFileSync(path, "utf8")) as Environment;
  } catch (error) {
    throw fileError("Read the environment of a VM", path, error);
  }
}
