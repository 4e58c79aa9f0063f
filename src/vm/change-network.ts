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
import { isTapInForce, mendTapRules } from "./start-tap.js";
import { decodeSpec, encodeSpec, type VmSpec } from "./vm-spec.js";

/** Default bound of a change, in milliseconds. */
const CHANGE_TIMEOUT_MS = 30_000;

/**
 * Replaces what the guest may reach, at once: connections that the new policy refuses are ended. A VM that does not run
 * has it from its next start on.
 *
 * @throws {INVALID_CONFIG} naming the entry. @throws {UNSUPPORTED} for a VM without a network, or where it cannot be enforced.
 * @throws {VM_NOT_FOUND} {NETWORK_FAILED} {BUSY} {ABORTED} {TIMEOUT} The old policy stays.
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
    await enforceOnRecord(ctx, row, old, Deadline.after(REPAIR_TIMEOUT_MS)).catch(() => closeNetwork(ctx, row.id));
    throw error;
  }
}

/**
 * Starts the guard of a running VM again if it died. A failure is no reason to refuse the guest itself: it reaches
 * nothing then, and `info().warnings` says why.
 */
export async function reviveNetwork(ctx: VmContext, row: VmRow, deadline: Deadline): Promise<void> {
  const { networkMode } = decodeSpec(row.id, row.spec);
  if (networkMode === "none") return;
  const isGuarded = (await liveProcess(ctx, row.id, NETWORK_ROLE)) !== undefined;
  const isToBeLookedAt = networkMode === "tap" && ctx.tapChecks.isDue(row.id);
  if (isGuarded && !(isToBeLookedAt && !(await isTapInForce(ctx, row.id, deadline)))) return;
  await changeVm(ctx, { vmId: row.id, verb: "network" }, deadline.atMost(REPAIR_TIMEOUT_MS), {
    work: async (claimed) => {
      await revive(ctx, claimed, deadline.atMost(REPAIR_TIMEOUT_MS));
      return { end: steady(claimed), value: undefined };
    },
  }).catch((error: unknown) => {
    if (deadline.isAborted) throw error;
  });
}

async function revive(ctx: VmContext, row: VmRow, deadline: Deadline): Promise<void> {
  const runtimeDir = runtimeDirectory(ctx, row.id);
  if (!isLive(row.status) || runtimeDir === undefined) return;
  const spec = decodeSpec(row.id, row.spec);
  try {
    if (spec.networkMode === "tap") await mendTapRules(ctx, row.id, deadline);
    // Looked at again under the claim: another program may have been faster.
    if ((await liveProcess(ctx, row.id, NETWORK_ROLE)) !== undefined) return;
    await restartGuard(ctx, { vmId: row.id, spec, runtimeDir, deadline });
  } catch (error) {
    const warning = `The network died and could not be started again: ${(error as Error).message}`;
    ctx.store.vms.setWarnings(row.id, [...row.warnings.filter((text) => text !== warning), warning]);
  }
}

function steady({ status, failure }: VmRow): Pick<VmRow, "status" | "failure"> {
  return { status, failure };
}
