// Names of unfinished things: <pid>-<tag>-<random>. A name says whose it is from the moment it exists, so what a killed
// process left can be told from what is being worked on.

import { createHash, randomBytes } from "node:crypto";
import { identifyProcess, type ProcessIdentity, selfIdentity } from "./process-identity.js";

const OWNER_PATTERN = /^(\d+)-([0-9a-f]{16})-/;

/** A new name of this process. */
export async function ownedName(): Promise<string> {
  const owner = await selfIdentity();
  return `${owner.pid}-${tagOf(owner)}-${randomBytes(6).toString("hex")}`;
}

/** False as well for what is no such name. */
export async function isOwnerAlive(name: string): Promise<boolean> {
  const match = OWNER_PATTERN.exec(name);
  if (match === null) return false;
  const now = await identifyProcess(Number(match[1]));
  return now !== undefined && tagOf(now) === match[2];
}

function tagOf({ startTime, bootId }: ProcessIdentity): string {
  return createHash("sha256").update(`${startTime} ${bootId}`).digest("hex").slice(0, 16);
}
