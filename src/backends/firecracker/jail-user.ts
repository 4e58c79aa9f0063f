// The user that a jailed VMM is: one of its own, so that no two VMs can touch each other's processes or files.

import { createHash } from "node:crypto";
import { basename } from "node:path";

/**
 * Users that nobody else has: systemd's container ranges end right below (https://systemd.io/UIDS-GIDS), and no account
 * is made for ours.
 */
const FIRST_UID = 0x7000_0000;
const UID_COUNT = 0x0700_0000;

/** User and group of the VMM of a runtime directory. Follows from its name, which is random. */
export function jailUser(runtimeDir: string): number {
  const digest = createHash("sha256").update(basename(runtimeDir)).digest();
  return FIRST_UID + (digest.readUInt32BE(0) % UID_COUNT);
}
