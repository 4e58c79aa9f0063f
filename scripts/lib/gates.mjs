// Which tests may be skipped. A test that cannot run here announces it with a line `gate: KIND: REASON` on stdout of
// its own test file; only these kinds count, and only where the host really lacks the thing.

import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";
import { findDescription } from "./firecracker-description.mjs";

/** For each kind of gate: whether this host may skip tests for it. */
const MAY_SKIP = {
  // No package source offers it, so nobody can be asked to have it.
  firecracker: () => !isOnPath("firecracker"),
  // It is not part of the repository.
  "firecracker-description": () => findDescription() === undefined,
  // A device that opens may still not run a guest: the test's own trial decides.
  kvm: () => true,
  root: () => process.getuid?.() !== 0,
  // Root may read everything: what happens otherwise cannot be tried as root.
  "ordinary-user": () => process.getuid?.() === 0,
  // Only compares with it; SmolVM does not need it.
  cpio: () => !isOnPath("cpio"),
  "ssh-keygen": () => !isOnPath("ssh-keygen"),
  "ssh-client": () => !isOnPath("ssh"),
  linux: () => process.platform !== "linux",
};

/** The kind and reason of a gate line, or `undefined` for any other line. */
export function parseGateLine(line) {
  const match = /^gate: ([a-z-]+): (.+)$/.exec(line.trim());
  return match === null ? undefined : { kind: match[1], reason: match[2] };
}

/** True when tests may be skipped on this host because of a gate of this kind. */
export function maySkip(kind) {
  return MAY_SKIP[kind]?.() ?? false;
}

function isOnPath(program) {
  return (process.env.PATH ?? "").split(delimiter).some((dir) => {
    try {
      accessSync(join(dir, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}
