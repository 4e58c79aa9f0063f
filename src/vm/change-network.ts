// Gives a VM another egress policy, and looks after the guard that enforces it.

import { Deadline, type WaitOptions } from "../base/deadline.js";
import { SmolVMError } from "../errors/smolvm-error.js";
import type { EgressPolicy } from "../network/egress-policy.js";
import type { VmRow } from "../storage/vm-store.js";
import { CLAIM_TIMEOUT_MS, changeVm, findVm } from "./claim.js";
import type { VmContext } from "./context.js";
import { isLive } from "./lifecycle.js";
import { closeNetwork, enforceOnRecord, REPAIR_TIMEOUT_MS, restartGuard } from "./live-network.js";
import { liveProcess } from "./live-process.js";
import { checkEgress } from "./network-config.js";
import { requireNetwork } from "./require-network.js";
import { NETWORK_ROLE, runtimeDirectory } from "./resources.js";
import { isTapInForce, mendTap } from "./start-tap.js";
import { decodeSpec, encodeSpec, type VmSpec } from "./vm-spec.js";

/** Default bound of a change, in milliseconds. */
const CHANGE_TIMEOUT_MS = 30_000;

/**
 * Replaces what the guest may reach, at once: connections that the new policy refuses are ended. A VM that does not run
 * has it from its next start on.
 *
 * @throws {INVALID_CONFIG} naming the entry. @throws {UNSUPPORTED} for a VM without a network, or where it cannot be enforced.
 * @throws {VM_NOT_FOUND} {NETWORK_FAILED} {BUSY} {ABORTED} {TIMEOUT} The old policy stays; where even that cannot be put back,
 *   nothing is reached until the next call that touches the VM.
 */
export async function updateEgress(
  ctx: VmContext,
  vmId: string,
  policy: EgressPolicy,
  options: WaitOptions = {},
): Promise<void> {
  const egress = checkEgress(policy);
  const deadline = Deadline.from(options, CHANGE_TIMEOUT_MS);
  const { networkMode } = decodeSpec(vmId, findVm(ctx, vmId).spec);
  if (networkMode === "none") {
    throw new SmolVMError("UNSUPPORTED", `Cannot change the egress policy of VM "${vmId}": it has no network`, {
      details: { vmId },
    });
  }
  await requireNetwork({ mode: networkMode, egress, rateLimitMbps: undefined }, deadline);
  await changeVm(ctx, { vmId, verb: "network" }, deadline.atMost(CLAIM_TIMEOUT_MS), {
    work: async (row) => {
      await replacePolicy(ctx, row, egress, deadline);
      return { end: steady(row), value: undefined };
    },
  });
}

async function replacePolicy(ctx: VmContext, row: VmRow, egress: EgressPolicy, deadline: Deadline): Promise<void> {
  const old = decodeSpec(row.id, row.spec);
  const spec: VmSpec = { ...old, egress };
  // First: whoever finds this program dead in between brings into force what is on record.
  ctx.store.vms.setSpec(row.id, encodeSpec(spec));
  try {
    await enforceOnRecord(ctx, row, spec, deadline);
  } catch (error) {
    ctx.store.vms.setSpec(row.id, encodeSpec(old));
    await enforceOnRecord(ctx, row, old, Deadline.after(REPAIR_TIMEOUT_MS)).catch(() => closeNetwork(ctx, row.id, old));
    throw error;
  }
}

/**
 * Brings the network of a running VM back if its guard died, or somebody removed its rules. A failure is no reason to
 * refuse the guest itself: `info().warnings` says why it reaches nothing.
 */
export async function reviveNetwork(ctx: VmContext, row: VmRow, deadline: Deadline): Promise<void> {
  try {
    if (await isWhole(ctx, row, deadline.atMost(REPAIR_TIMEOUT_MS))) return;
    await changeVm(ctx, { vmId: row.id, verb: "network" }, deadline.atMost(REPAIR_TIMEOUT_MS), {
      work: async (claimed) => {
        await revive(ctx, claimed, deadline.atMost(REPAIR_TIMEOUT_MS));
        return { end: steady(claimed), value: undefined };
      },
    });
  } catch (error) {
    if (deadline.isAborted) throw error;
    setWarning(ctx, row.id, [`${WARNING}${(error as Error).message}`]);
  }
}

async function isWhole(ctx: VmContext, row: VmRow, deadline: Deadline): Promise<boolean> {
  const { networkMode } = decodeSpec(row.id, row.spec);
  if (networkMode === "none") return true;
  if ((await liveProcess(ctx, row.id, NETWORK_ROLE)) === undefined) return false;
  return networkMode === "user" || !ctx.tapChecks.isDue(row.id) || (await isTapInForce(ctx, row.id, deadline));
}

async function revive(ctx: VmContext, row: VmRow, deadline: Deadline): Promise<void> {
  const runtimeDir = runtimeDirectory(ctx, row.id);
  if (!isLive(row.status) || runtimeDir === undefined) return;
  const spec = decodeSpec(row.id, row.spec);
  const network = { vmId: row.id, spec, runtimeDir, deadline };
  if (spec.networkMode === "tap") await mendTap(ctx, network);
  // Looked at again under the claim: another program may have been faster.
  if ((await liveProcess(ctx, row.id, NETWORK_ROLE)) === undefined) await restartGuard(ctx, network);
  setWarning(ctx, row.id, []);
}

/** Begins what `info().warnings` says of a network that could not be brought back. */
const WARNING = "The network does not work: ";

function setWarning(ctx: VmContext, vmId: string, warnings: readonly string[]): void {
  const now = ctx.store.vms.find(vmId)?.warnings ?? [];
  const others = now.filter((warning) => !warning.startsWith(WARNING));
  if (others.length + warnings.length > 0 || now.length > 0) ctx.store.vms.setWarnings(vmId, [...others, ...warnings]);
}

function steady({ status, failure }: VmRow): Pick<VmRow, "status" | "failure"> {
  return { status, failure };
}
