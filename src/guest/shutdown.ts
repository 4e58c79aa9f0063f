// Asks the guest to end itself in order.

import type { Deadline } from "../base/deadline.js";
import type { GuestConnection } from "./connection.js";
import { FieldWriter } from "./fields.js";

/**
 * Ends all processes of the guest and brings its disk to rest. When it resolves the disk is consistent and the VMM
 * may be killed; the guest is powering off by itself.
 *
 * @param graceMs Time between SIGTERM and SIGKILL in the guest, in milliseconds.
 * @throws {TIMEOUT} @throws {ABORTED} @throws {CHANNEL_CLOSED}
 */
export async function shutdownGuest(connection: GuestConnection, graceMs: number, deadline: Deadline): Promise<void> {
  await connection.call("shutdown", new FieldWriter().u32(10, graceMs), deadline);
}
