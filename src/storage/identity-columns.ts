// A process identity as three columns.

import type { ProcessIdentity } from "../host/process-identity.js";
import type { SqlValue } from "./database.js";

/** Values for the columns pid, start time and boot id. */
export function identityValues(identity: ProcessIdentity | undefined): [SqlValue, SqlValue, SqlValue] {
  return identity === undefined ? [null, null, null] : [identity.pid, identity.startTime, identity.bootId];
}

/** The identity that the columns hold; `undefined` when they are NULL. */
export function identityFrom(
  pid: SqlValue | undefined,
  startTime: SqlValue | undefined,
  bootId: SqlValue | undefined,
): ProcessIdentity | undefined {
  if (typeof pid !== "number") return undefined;
  return { pid, startTime: String(startTime), bootId: String(bootId) };
}
