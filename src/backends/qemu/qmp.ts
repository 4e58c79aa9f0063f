// A short conversation with QEMU: it serves one client at a time, so a client says what it came for and leaves.

import type { Deadline } from "../../base/deadline.js";
import { type QmpCommand, QmpSession } from "./qmp-session.js";

/**
 * Sends commands to a monitor, one after the other.
 *
 * @returns What each command returned.
 * @throws {CHANNEL_CLOSED} when QEMU is gone or hangs up.
 * @throws {INTERNAL} when QEMU refuses a command; details hold command, class and desc.
 * @throws {TIMEOUT} @throws {ABORTED}
 */
export async function qmp(
  socketPath: string,
  commands: readonly QmpCommand[],
  deadline: Deadline,
): Promise<readonly unknown[]> {
  const session = await QmpSession.open(socketPath, deadline);
  try {
    // All at once: QEMU answers in order.
    return await Promise.all(commands.map((command) => session.execute(command, deadline)));
  } finally {
    session.close();
  }
}
