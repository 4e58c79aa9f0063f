// What a guest is asked around the copying of its machine: to be at rest before, and to keep its commands alive through it,
// for in a copy every client is gone.

import type { Deadline } from "../base/deadline.js";
import type { GuestConnection } from "./connection.js";
import { FieldWriter } from "./fields.js";

/**
 * Makes all commands stand still, and a connection that ends leave its commands alone, until {@link releaseCommands},
 * until the limit, or in a copy until it has been configured. A second call sets a new limit.
 *
 * @param limitMs By the guest's clock, in milliseconds, at most 600 000: it bounds what a host that dies leaves running.
 * @throws {TIMEOUT} @throws {ABORTED} @throws {CHANNEL_CLOSED} @throws {PROTOCOL_ERROR}
 */
export async function holdCommands(connection: GuestConnection, limitMs: number, deadline: Deadline): Promise<void> {
  await connection.call("hold", new FieldWriter().u32(10, limitMs), deadline);
}

/**
 * Ends what {@link holdCommands} began, after setting the guest's clock, which stood still with the machine. Commands
 * whose connection ended meanwhile go on.
 *
 * @throws {TIMEOUT} @throws {ABORTED} @throws {CHANNEL_CLOSED} @throws {PROTOCOL_ERROR}
 */
export async function releaseCommands(connection: GuestConnection, deadline: Deadline): Promise<void> {
  await connection.call("release", new FieldWriter().u64(12, BigInt(Date.now()) * 1_000_000n), deadline);
}

/**
 * Lets the agent drop what it does not need. When it resolves the agent is at rest.
 *
 * @throws {TIMEOUT} @throws {ABORTED} @throws {CHANNEL_CLOSED} @throws {PROTOCOL_ERROR}
 */
export async function settleGuest(connection: GuestConnection, deadline: Deadline): Promise<void> {
  await connection.call("settle", new FieldWriter(), deadline);
}
