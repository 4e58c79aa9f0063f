// Versions of Firecracker's programs: how they state them, and which of them this SmolVM speaks to.

import { isAtLeast } from "../checks/version.js";

/** Major, minor and patch level. */
export type FirecrackerVersion = readonly [number, number, number];

/**
 * First version whose snapshots are of use: 1.16.0 can leave a machine that goes on from one without its vsock for good
 * (Firecracker's issue #5958, mended in #5969). Before 1.16.0 the API knows less, and refuses a field that it does not know.
 */
export const OLDEST_FIRECRACKER: FirecrackerVersion = [1, 16, 1];

/** Firecracker's two programs, by the names under which they are looked for. */
export type FirecrackerProgramName = "firecracker" | "jailer";

/** What each calls itself in its answer to `--version`. */
const SPOKEN_NAMES: Readonly<Record<FirecrackerProgramName, string>> = {
  firecracker: "Firecracker",
  jailer: "Jailer",
};

/** What a program says about its version. */
export interface StatedVersion {
  readonly numbers: FirecrackerVersion;
  /** As stated, without the `v`: also what follows the numbers of a build that is no release. */
  readonly text: string;
}

/** Reads the answer to `--version`; `undefined` when it is not that program's. */
export function parseStatedVersion(name: FirecrackerProgramName, output: string): StatedVersion | undefined {
  const match = /^(\w+) v((\d{1,5})\.(\d{1,5})\.(\d{1,5})[\w.+-]{0,40})$/m.exec(output);
  if (match === null || match[1] !== SPOKEN_NAMES[name]) return undefined;
  return { numbers: [Number(match[3]), Number(match[4]), Number(match[5])], text: match[2] ?? "" };
}

/** Whether the backend can speak to this version: another major one may have changed anything (semantic versioning). */
export function isSupportedVersion({ numbers }: StatedVersion): boolean {
  return numbers[0] === OLDEST_FIRECRACKER[0] && isAtLeast(numbers, OLDEST_FIRECRACKER);
}

/** The supported versions in words. */
export const SUPPORTED_VERSIONS = `v${OLDEST_FIRECRACKER.join(".")} or a later v${OLDEST_FIRECRACKER[0]}`;
