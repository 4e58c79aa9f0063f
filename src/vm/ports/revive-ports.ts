// Brings the ports of a running VM back when a program comes to its guest and the process that serves them is dead.

import type { Deadline } from "../../base/deadline.js";
import type { VmRow } from "../../storage/vm-store.js";
import type { VmContext } from "../context.js";
import { replaceWarnings } from "../vm-warnings.js";
import { ensurePorts, servePorts } from "./ensure-ports.js";

/** How long it may take, in milliseconds: whoever comes wants something else. */
const REVIVE_TIMEOUT_MS = 10_000;
/** Begins what `info().warnings` says when no port could be served again. */
const WARNING = "The ports are not served: ";

/**
 * A failure is no reason to refuse the guest itself, unless the way to it is one of the ports; `info().warnings` says why.
 *
 * @param isNeeded Whether the caller's own way is one of the ports. Then it throws what {@link ensurePorts} throws.
 */
export async function revivePorts(ctx: VmContext, row: VmRow, isNeeded: boolean, deadline: Deadline): Promise<void> {
  try {
    const bound = deadline.atMost(REVIVE_TIMEOUT_MS);
    if (isNeeded) await ensurePorts(ctx, row.id, bound);
    else await servePorts(ctx, row.id, [], bound);
    replaceWarnings(ctx, row.id, WARNING, []);
  } catch (error) {
    if (isNeeded || deadline.isAborted) throw error;
    replaceWarnings(ctx, row.id, WARNING, [(error as Error).message]);
  }
}
