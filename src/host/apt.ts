// Speaks apt: exact commands that never ask a question, and what apt says about its work, as data.

import type { ProgressEvent } from "../base/progress.js";

/** How long to wait for another apt to finish, in seconds. */
const LOCK_WAIT_SECONDS = 120;

const APT_GET = [
  "env",
  "DEBIAN_FRONTEND=noninteractive",
  "apt-get",
  "-q",
  "-y",
  "-o",
  `DPkg::Lock::Timeout=${LOCK_WAIT_SECONDS}`,
];

/** Fetches the package lists. */
export const APT_UPDATE_ARGV: readonly string[] = [...APT_GET, "update"];

/** Installs packages, without those that are merely recommended. */
export function aptInstallArgv(packages: readonly string[]): readonly string[] {
  return [...APT_GET, "--no-install-recommends", "install", ...packages];
}

/** Names of `apt-cache policy` output that could be installed now; an unknown package has no section at all. */
export function parseInstallable(policy: string): ReadonlySet<string> {
  const found = new Set<string>();
  let current: string | undefined;
  for (const line of policy.split("\n")) {
    const heading = /^(\S+):$/.exec(line);
    if (heading !== null) current = heading[1];
    const candidate = /^ {2}Candidate: (.+)$/.exec(line)?.[1];
    if (current !== undefined && candidate !== undefined && candidate !== "(none)") found.add(current);
  }
  return found;
}

/** Turns the lines of `apt-get install` into progress: each package is fetched, unpacked and set up. */
export function aptProgress(step: string): (line: string) => ProgressEvent | undefined {
  let totalPackages = 0;
  let doneActs = 0;
  return (line) => {
    const total = /^(\d+) upgraded, (\d+) newly installed/.exec(line);
    if (total !== null) totalPackages = Number(total[1]) + Number(total[2]);
    const act = /^(?:Get:\d+ \S+ \S+ \S+ (\S+)|Unpacking (\S+)|Setting up (\S+))/.exec(line);
    if (act === null) return undefined;
    doneActs += 1;
    const verb = act[1] !== undefined ? "fetching" : act[2] !== undefined ? "unpacking" : "setting up";
    const detail = `${verb} ${act[1] ?? act[2] ?? act[3]}`;
    const fraction = totalPackages === 0 ? undefined : Math.min(1, doneActs / (ACTS_PER_PACKAGE * totalPackages));
    return { step, detail, ...(fraction === undefined ? {} : { fraction }) };
  };
}

/** A package is fetched, unpacked and set up. */
const ACTS_PER_PACKAGE = 3;
