// Whether a process of a VM's lives.

import { isAlive, type ProcessIdentity } from "../host/process-identity.js";
import type { VmContext } from "./context.js";

/** The process of a role, if it lives. */
export async function liveProcess(ctx: VmContext, vmId: string, role: string): Promise<ProcessIdentity | undefined> {
  const resource = ctx.store.resources.list(vmId).find(({ kind, name }) => kind === "process" && name === role);
  const identity = resource?.process;
  return identity !== undefined && (await isAlive(identity)) ? identity : undefined;
}
