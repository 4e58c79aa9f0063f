// Finds processes by what they were told: for those that were started but not yet recorded when their starter died.

import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { basename } from "node:path";
import { identifyOnLinux, type ProcessIdentity } from "./process-identity.js";

/**
 * @param program Matches the file name of the executable.
 * @param text Must occur in one of the arguments or in the working directory: a path that only this process was given.
 * @returns Processes of this host that this user may see; none on hosts without `/proc`.
 */
export function findProcesses(program: RegExp, text: string): ProcessIdentity[] {
  return processIds().flatMap((pid) => {
    try {
      if (!program.test(basename(readlinkSync(`/proc/${pid}/exe`)))) return [];
      const told = [readFileSync(`/proc/${pid}/cmdline`, "utf8"), readlinkSync(`/proc/${pid}/cwd`)];
      if (!told.some((place) => place.includes(text))) return [];
    } catch {
      return []; // It ended, or belongs to somebody else.
    }
    const identity = identifyOnLinux(pid);
    return identity === undefined ? [] : [identity];
  });
}

function processIds(): number[] {
  try {
    return readdirSync("/proc").flatMap((name) => (/^\d+$/.test(name) ? [Number(name)] : []));
  } catch {
    return [];
  }
}
