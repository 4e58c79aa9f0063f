// A directory that only this user writes to: made if need be, looked at if it is there. What others made is never
// changed, whatever its mode is.

import { chmodSync, existsSync, mkdirSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { SmolVMError } from "../errors/smolvm-error.js";

const PRIVATE_MODE = 0o700;
const WRITABLE_BY_OTHERS = 0o022;

/**
 * Makes a directory with mode 0700, and those around it likewise; one that is there already stays as it is.
 *
 * @throws {STORAGE_FAILED} when it belongs to another user, or others can write to it.
 */
export function makeOwnDirectory(directory: string): void {
  // Step by step: below /proc the recursive form of Node.js 20 never comes to an end.
  for (const path of missingPart(directory)) make(path);
  requireOwn(directory);
}

/** The directories that are not there, the outermost first. */
function missingPart(directory: string): readonly string[] {
  const missing: string[] = [];
  for (let path = directory; !existsSync(path) && dirname(path) !== path; path = dirname(path)) missing.unshift(path);
  return missing;
}

function make(path: string): void {
  try {
    mkdirSync(path, { mode: PRIVATE_MODE });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return; // Another process was faster.
    throw error;
  }
  chmodSync(path, PRIVATE_MODE); // Whatever the umask is.
}

function requireOwn(directory: string): void {
  const info = statSync(directory);
  const mode = info.mode & 0o7777;
  const details = { path: directory, uid: info.uid, mode: mode.toString(8) };
  const refused = (why: string, hint: string) =>
    new SmolVMError("STORAGE_FAILED", `Cannot keep files in "${directory}": ${why}`, { details, hint });
  const elsewhere = "choose another with SMOLVM_STATE_DIR or SMOLVM_CACHE_DIR";
  if (!info.isDirectory()) throw refused("it is not a directory", `Remove it, or ${elsewhere}.`);
  if (info.uid !== process.getuid?.()) {
    throw refused(`it belongs to user ${info.uid}`, `Use SmolVM as that user, or ${elsewhere}.`);
  }
  if ((mode & WRITABLE_BY_OTHERS) !== 0) {
    const hint = `If nobody else put files there, run \`chmod go-w\` on it; else ${elsewhere}.`;
    throw refused(`others can write to it (mode ${mode.toString(8)})`, hint);
  }
}
