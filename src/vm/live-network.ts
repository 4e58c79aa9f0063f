// The network of a VM that runs: its guard obeys the policy on record, and is started again when it has died. While it
// is dead nothing is carried. The caller holds the VM's claim.

import { join } from "node:path";
import { backendFor } from "../backends/registry.js";
import { Deadline } from "../base/deadline.js";
import { SmolVMError } from "../errors/smolvm-error.js";
import { type ControlAnswer, controlCall } from "../host/control-call.js";
import { endProcessGroup } from "../host/end-process.js";
import type { ProcessIdentity } from "../host/process-identity.js";
import { CONTROL_NAME, guardDirectory } from "../network/guard-process.js";
import { readHostNetwork } from "../network/host-network.js";
import { enforcedPolicy } from "../network/network-plan.js";
import { restartUserNetwork } from "../network/user-network.js";
import type { VmRow } from "../storage/vm-store.js";
import type { VmContext } from "./context.js";
import { earlierRun, isEarlierRun } from "./earlier-run.js";
import { isLive } from "./lifecycle.js";
import { liveProcess, recordProcess } from "./live-process.js";
import type { NetworkStart } from "./network-start.js";
import { NETWORK_ROLE, runtimeDirectory, VMM_ROLE } from "./resources.js";
import { userNetworkOptions } from "./start-network.js";
import { closeTap, mendTap, restartTapGuard } from "./start-tap.js";
import { decodeSpec, type VmSpec } from "./vm-spec.js";

/** How long a guard may take to put a policy in force, in milliseconds; it takes one. */
const ANSWER_LIMIT_MS = 2_000;
/** How long a guard that died may take to be there again, in milliseconds. */
export const REPAIR_TIMEOUT_MS = 10_000;

/**
 * Makes the policy on record that in force, with the guard that runs or with a new one.
 *
 * @throws {UNSUPPORTED} when this host cannot enforce it; the old one is in force still.
 * @throws {NETWORK_FAILED} {HOST_UNSUPPORTED} {TIMEOUT} {ABORTED}
 */
async function enforcePolicy(ctx: VmContext, network: NetworkStart): Promise<void> {
  const { vmId, spec } = network;
  if (spec.networkMode === "none") return;
  if ((await liveProcess(ctx, vmId, NETWORK_ROLE)) !== undefined && (await instructGuard(ctx, network))) return;
  await restartGuard(ctx, network);
  // Not before: the rules of a TAP device leave ports of the host to its guard.
  if (spec.networkMode === "tap") await mendTap(ctx, network);
}

/** @returns False when the guard did not answer; it is ended then. */
async function instructGuard(ctx: VmContext, network: NetworkStart): Promise<boolean> {
  const { vmId, spec, deadline } = network;
  if (spec.networkMode === "tap") await mendTap(ctx, network);
  const policy = enforcedPolicy(spec.egress, await readHostNetwork());
  const path = join(guardDirectory(network.runtimeDir), CONTROL_NAME);
  const answer = await controlCall(path, { op: "policy", policy }, deadline.atMost(ANSWER_LIMIT_MS)).catch((error) => {
    if (deadline.isAborted) throw error;
    return undefined;
  });
  if (answer?.ok === true) return true;
  if (answer !== undefined) throw refused(vmId, answer);
  // A guest must not be able to keep the old policy by keeping the guard busy.
  await endGuard(ctx, vmId);
  return false;
}

function refused(vmId: string, { code, message }: Extract<ControlAnswer, { ok: false }>): SmolVMError {
  const isPermission = code === "EPERM";
  return new SmolVMError(
    isPermission ? "UNSUPPORTED" : "NETWORK_FAILED",
    `Cannot change the network of VM "${vmId}": ${message}`,
    { details: { vmId, reason: message, errno: code } },
  );
}

/**
 * Lets nothing pass, and ends the guard: the next call that touches the VM brings into force what is on record.
 *
 * @throws {NETWORK_FAILED} when a TAP device cannot be taken down. @throws {TIMEOUT}
 */
export async function closeNetwork(ctx: VmContext, vmId: string, { networkMode }: VmSpec): Promise<void> {
  await endGuard(ctx, vmId);
  if (networkMode === "tap") await closeTap(ctx, vmId, Deadline.after(REPAIR_TIMEOUT_MS));
}

async function endGuard(ctx: VmContext, vmId: string): Promise<void> {
  const guard = await liveProcess(ctx, vmId, NETWORK_ROLE);
  if (guard !== undefined) await endProcessGroup(guard);
}

/**
 * Brings what is on record into force for a VM that has a VMM.
 *
 * @throws As {@link enforcePolicy} and {@link requireEarlierGuard}.
 */
export async function enforceOnRecord(ctx: VmContext, row: VmRow, spec: VmSpec, deadline: Deadline): Promise<void> {
  const runtimeDir = runtimeDirectory(ctx, row.id);
  if (!isLive(row.status) || runtimeDir === undefined) return;
  if (isEarlierRun(row)) return requireEarlierGuard(ctx, row.id, spec);
  await enforcePolicy(ctx, { vmId: row.id, spec, runtimeDir, deadline });
}

/**
 * The guard of an earlier SmolVM does one thing, as long as it lives: its VMM does not look for another one.
 *
 * @throws {UNSUPPORTED} when that is not what is wanted, or it is dead.
 */
async function requireEarlierGuard(ctx: VmContext, vmId: string, { networkMode, egress }: VmSpec): Promise<void> {
  const isAlive = (await liveProcess(ctx, vmId, NETWORK_ROLE)) !== undefined;
  if (networkMode === "none" || (isAlive && egress === "open")) return;
  throw earlierRun(vmId, "change the network of");
}

/** After a program died in the middle of a change: what is on record is in force, or nothing is reached. */
export async function finishNetworkChange(ctx: VmContext, row: VmRow): Promise<void> {
  const spec = decodeSpec(row.id, row.spec);
  await enforceOnRecord(ctx, row, spec, Deadline.after(REPAIR_TIMEOUT_MS)).catch(() => closeNetwork(ctx, row.id, spec));
}

/** A guard that is not there yet. */
interface RestartedGuard {
  readonly pid: number;
  readonly ready: Promise<void>;
  /** Tells it which VMM it ends with, where it does not see that by itself. */
  follow?(vmm: ProcessIdentity): Promise<void>;
}

/** Starts another guard for a VMM that runs, and waits until it works. */
async function restartGuard(ctx: VmContext, network: NetworkStart): Promise<void> {
  const { vmId, spec, deadline } = network;
  // Should no guard start again, the device stays down: the rules leave ports of the host to it.
  if (spec.networkMode === "tap") await closeTap(ctx, vmId, deadline);
  const started: RestartedGuard =
    spec.networkMode === "tap"
      ? await restartTapGuard(ctx, network)
      : await restartUserNetwork(await userNetworkOptions(network));
  await recordProcess(ctx, { vmId, role: NETWORK_ROLE, pid: started.pid });
  await started.ready;
  const vmm = await liveProcess(ctx, vmId, VMM_ROLE);
  if (vmm !== undefined) await started.follow?.(vmm);
  if (spec.networkMode === "user") await wakeDevice(ctx, network);
}

/**
 * A VMM whose peer went away in the middle of a frame does not send again by itself, not to the next one either: QEMU 7.2
 * looks at its queue only when the machine goes on (seen under a flood of UDP; `vm_state_notify` of virtio-net).
 */
async function wakeDevice(ctx: VmContext, { vmId, spec, runtimeDir, deadline }: NetworkStart): Promise<void> {
  if (ctx.store.vms.find(vmId)?.status !== "running") return;
  const backend = backendFor(spec.backend);
  await backend.pause(runtimeDir, deadline);
  await backend.resume(runtimeDir, deadline);
}
