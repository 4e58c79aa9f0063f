// TAP networks that nobody needs any more: of VMs that are off the record, and of state directories that are gone.

import { existsSync } from "node:fs";
import { join } from "node:path";
import { Deadline } from "../base/deadline.js";
import { hasCapability } from "../host/capabilities.js";
import { NETWORK_DIRECTORY } from "../host/tap-needs.js";
import { NETWORK_SCHEMA } from "../storage/migrations.js";
import type { VmContext } from "./context.js";

/** Bound of all of it, in milliseconds. */
const LIMIT_MS = 30_000;

/**
 * Removes their devices, rules and leases. With `tables` also our tables, if no VM of this network namespace needs them:
 * without VMs they do nothing.
 *
 * @returns Ids of the VMs whose networks were removed.
 * @throws {NETWORK_FAILED} {STORAGE_FAILED} {BUSY} {TIMEOUT}
 */
export async function reconcileTaps(ctx: VmContext, { tables = false } = {}): Promise<readonly string[]> {
  // Who may not touch them, or has never had one, has nothing to look for.
  if (!hasCapability("CAP_NET_ADMIN") || !existsSync(join(NETWORK_DIRECTORY, NETWORK_SCHEMA.file))) return [];
  const deadline = Deadline.after(LIMIT_MS);
  const { networks, leases } = ctx.taps();
  const stray = leases.held().filter(({ owner }) => {
    if (owner.stateDir === ctx.paths.stateDir) return ctx.store.vms.find(owner.vmId) === undefined;
    return !existsSync(owner.stateDir);
  });
  const removed = await networks.reclaim(stray, deadline);
  if (tables) await networks.removeTables(deadline);
  return removed.map(({ owner }) => owner.vmId);
}
