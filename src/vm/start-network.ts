// The network of one boot, from the VM's record to what the VMM and the guest need of it.

import type { Deadline } from "../base/deadline.js";
import type { GuestInterface } from "../guest/configure.js";
import { identifyProcess } from "../host/process-identity.js";
import { readHostNetwork } from "../network/host-network.js";
import { planNetwork } from "../network/network-plan.js";
import { startPasst } from "../network/passt.js";
import type { VmContext } from "./context.js";
import { helperPath } from "./helper-programs.js";
import { NETWORK_ROLE } from "./resources.js";
import type { VmSpec } from "./vm-spec.js";

/** Both ends of a VM's network. */
export interface StartedNetwork {
  readonly device: { readonly socketPath: string; readonly macAddress: string };
  readonly guest: GuestInterface;
  /** What the guest will miss. */
  readonly warnings: readonly string[];
}

/** What it is started for. */
export interface NetworkStart {
  readonly vmId: string;
  readonly spec: VmSpec;
  readonly runtimeDir: string;
  readonly deadline: Deadline;
}

/**
 * @returns `undefined` for a VM without a network.
 * @throws {NETWORK_FAILED} {PORT_IN_USE} {HOST_UNSUPPORTED} {TIMEOUT} {ABORTED}
 */
export async function startNetwork(ctx: VmContext, start: NetworkStart): Promise<StartedNetwork | undefined> {
  const { vmId, spec, runtimeDir, deadline } = start;
  const plan = planNetwork(vmId, { mode: spec.networkMode, ports: spec.ports }, await readHostNetwork());
  if (plan.mode === "none") return undefined;
  const { pid, socketPath } = await startPasst({
    dir: runtimeDir,
    plan,
    guardPath: helperPath("netguard"),
    deadline,
  });
  const identity = await identifyProcess(pid);
  if (identity !== undefined) ctx.store.resources.setProcess(vmId, NETWORK_ROLE, identity);
  return { device: { socketPath, macAddress: plan.guest.macAddress }, guest: plan.guest, warnings: plan.warnings };
}
