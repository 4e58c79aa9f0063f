// The processes of a VM by their role: as they are on record, and whether they live.

import { identifyProcess, isAlive, type ProcessIdentity } from "../host/process-identity.js";
import type { VmContext } from "./context.js";

/** The process that is on record for a role. */
export function recordedProcess(ctx: VmContext, vmId: string, role: string): ProcessIdentity | undefined {
  return ctx.store.resources.list(vmId).find(({ kind, name }) => kind === "process" && name === role)?.process;
}

/** The process of a role, if it lives. */
export async function liveProcess(ctx: VmContext, vmId: string, role: string): Promise<ProcessIdentity | undefined> {
  const identity = recordedProcess(ctx, vmId, role);
  return identity !== undefined && (await isAlive(identity)) ? identity : undefined;
}

/**
 * Puts on record which process a planned one has become.
 *
 * @returns Its identity; `undefined` when it has ended already.
 */
export async function recordProcess(
  ctx: VmContext,
  { vmId, role, pid }: { readonly vmId: string; readonly role: string; readonly pid: number },
): Promise<ProcessIdentity | undefined> {
  const identity = await identifyProcess(pid);
  if (identity !== undefined) ctx.store.resources.setProcess(vmId, role, identity);
  return identity;
}
