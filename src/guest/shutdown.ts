// Asks the guest to end itself in order.

import type { Deadline } from "../base/deadline.js";
import type { GuestConnection } from "./connection.js";
import { FieldWriter } from "./fields.js";

/** How to end. */
export interface ShutdownOptions {
  /** Time between SIGTERM and SIGKILL in the guest, in milliseconds. */
  readonly graceMs: number;
  /** Leave the disk as if it had been unmounted. Else it is written out, and its journal is replayed at the next mount. */
  readonly isClosed: boolean;
}

/**
 * Ends all processes of the guest and brings its disk to rest. When it resolves the disk is consistent and the VMM
 * may be killed; the guest is powering off by itself.
 *
 * @throws {TIMEOUT} @throws {ABORTED} @throws {CHANNEL_CLOSED}
 */
export async function shutdownGuest(
  connection: GuestConnection,
  { graceMs, isClosed }: ShutdownOptions,
  deadline: Deadline,
): Promise<void> {
  await connection.call("shutdown", new FieldWriter().u32(10, graceMs).flag(11, isClosed), deadline);
}
