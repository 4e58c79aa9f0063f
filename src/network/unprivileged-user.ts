// Whom the network's programs become when this program is root.

/** Ids of a user and its group. */
export interface UserIds {
  readonly uid: number;
  readonly gid: number;
}

/** Debian's, and everybody's, `nobody` and `nogroup`. */
const NOBODY: UserIds = { uid: 65_534, gid: 65_534 };

/** @returns `undefined` when this program is not root: what it starts has no more rights than it itself. */
export function unprivilegedUser(): UserIds | undefined {
  return process.getuid?.() === 0 ? NOBODY : undefined;
}
