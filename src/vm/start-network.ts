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
import { forwardsOf } from "./ssh/ssh-forward.js";
import type { VmSpec } from "./vm-spec.js";

/** Both ends of a VM's network. */
export interface StartedNetwork {
  /** The socket takes the VMM already; what the guest sends waits in it until the network is ready. */
  readonly device: { readonly socketPath: string; readonly macAddress: string };
  readonly guest: GuestInterface;
  /** What the guest will miss. */
  readonly warnings: readonly string[];
  /**
   * Resolves when frames are carried and every port is forwarded; a VM counts as running only then. Rejects with
   * HOST_UNSUPPORTED, PORT_IN_USE, NETWORK_FAILED, TIMEOUT or ABORTED; the guest has no network then. A rejection that
   * nobody waits for is not reported.
   */
  readonly ready: Promise<void>;
}

/** What it is started for. */
export interface NetworkStart {
  readonly vmId: string;
  readonly spec: VmSpec;
  readonly runtimeDir: string;
  /** Also bounds `ready`. */
  readonly deadline: Deadline;
}

/**
 * Starts the VM's network and returns as soon as a VMM can be given it.
 *
 * @returns `undefined` for a VM without a network.
 * @throws {NETWORK_FAILED} {HOST_UNSUPPORTED} {ABORTED}
 */
export async function startNetwork(ctx: VmContext, start: NetworkStart): Promise<StartedNetwork | undefined> {
  const { vmId, spec, runtimeDir, deadline } = start;
  if (spec.networkMode === "none") return undefined;
  const owner = { vmId, guestNumber: spec.guestNumber };
  const plan = planNetwork(owner, { mode: spec.networkMode, ports: forwardsOf(spec) }, await readHostNetwork());
  if (plan.mode === "none") return undefined;
  const guardPath = helperPath("netguard");
  const { pid, socketPath, ready } = await startPasst({ dir: runtimeDir, plan, guardPath, deadline });
  const identity = await identifyProcess(pid);
  if (identity !== undefined) ctx.store.resources.setProcess(vmId, NETWORK_ROLE, identity);
  const { guest, warnings } = plan;
  return { device: { socketPath, macAddress: guest.macAddress }, guest, warnings, ready };
}
