// The network of one boot, from the VM's record to what the VMM and the guest need of it.

import type { Deadline } from "../base/deadline.js";
import { fileError } from "../errors/file-error.js";
import { SmolVMError } from "../errors/smolvm-error.js";
import { readHostNetwork } from "../network/host-network.js";
import { planUserNetwork, type UserNetworkPlan } from "../network/network-plan.js";
import { startUserNetwork } from "../network/user-network.js";
import type { VmContext } from "./context.js";
import { helperPath } from "./helper-programs.js";
import { recordProcess } from "./live-process.js";
import type { NetworkStart, StartedNetwork } from "./network-start.js";
import { refusalsPath } from "./refusals.js";
import { NETWORK_ROLE } from "./resources.js";
import { startTapNetwork } from "./start-tap.js";

/**
 * Starts the VM's network and returns as soon as a VMM can be given it. What the guest may reach is in force by then.
 *
 * @returns `undefined` for a VM without a network.
 * @throws {NETWORK_FAILED} {HOST_UNSUPPORTED} {ABORTED}
 */
export async function startNetwork(ctx: VmContext, start: NetworkStart): Promise<StartedNetwork | undefined> {
  const { networkMode } = start.spec;
  if (networkMode === "none") return undefined;
  try {
    return await (networkMode === "tap" ? startTapNetwork(ctx, start) : startUser(ctx, start));
  } catch (error) {
    throw error instanceof SmolVMError ? error : fileError("Start the network", start.runtimeDir, error);
  }
}

async function startUser(ctx: VmContext, start: NetworkStart): Promise<StartedNetwork> {
  const options = await userNetworkOptions(start);
  const { pid, socket, ready } = await startUserNetwork(options);
  await recordProcess(ctx, { vmId: start.vmId, role: NETWORK_ROLE, pid });
  const { guest, warnings } = options.plan;
  return {
    device: { link: { kind: "socket", fd: socket.fd }, macAddress: guest.macAddress },
    guest,
    warnings,
    handOver: async () => socket.handOver(),
    follow: () => {}, // It sees its VMM's end by the socket.
    ready,
  };
}

/** What netguard is started with, for the first time or again. */
export async function userNetworkOptions({ vmId, spec, runtimeDir, deadline }: NetworkStart): Promise<{
  readonly dir: string;
  readonly plan: UserNetworkPlan;
  readonly guardPath: string;
  readonly refusalsPath: string;
  readonly deadline: Deadline;
}> {
  const { egress, rateLimitMbps, guestNumber, directory } = spec;
  const request = { egress, rateLimitMbps: rateLimitMbps ?? undefined };
  const plan = planUserNetwork({ vmId, guestNumber }, request, await readHostNetwork());
  const guardPath = helperPath("netguard");
  return { dir: runtimeDir, plan, guardPath, refusalsPath: refusalsPath(directory), deadline };
}
