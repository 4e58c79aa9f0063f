// Gives a VM another egress policy, and looks after the guard that enforces it.

import { Deadline, type WaitOptions } from "../base/deadline.js";
import { SmolVMError } from "../errors/smolvm-error.js";
import type { EgressPolicy } from "../network/egress-policy.js";
import type { VmRow } from "../storage/vm-store.js";
import { CLAIM_TIMEOUT_MS, changeVm, findVm } from "./claim.js";
import type { VmContext } from "./context.js";
import { isEarlierRun } from "./earlier-run.js";
import { closeNetwork, enforceOnRecord, REPAIR_TIMEOUT_MS } from "./live-network.js";
import { liveProcess } from "./live-process.js";
import { checkEgress } from "./network-config.js";
import { requireNetwork } from "./require-network.js";
import { NETWORK_ROLE } from "./resources.js";
import { isTapInForce } from "./start-tap.js";
import { decodeSpec, encodeSpec, type VmSpec } from "./vm-spec.js";
import { replaceWarnings } from "./vm-warnings.js";

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
  if (isEarlierRun(row)) return enforceOnRecord(ctx, row, spec, deadline); // Its record stays what it is known by.
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
export async function reviveNetwork(
  ctx: VmContext,
  row: VmRow,
  mode: VmSpec["networkMode"],
  deadline: Deadline,
): Promise<void> {
  if (mode === "none") return;
  const bound = deadline.atMost(REPAIR_TIMEOUT_MS);
  try {
    if (await isWhole(ctx, row, mode, bound)) return;
    await changeVm(ctx, { vmId: row.id, verb: "network" }, bound, {
      work: async (claimed) => {
        // Another program may have been faster: then this changes nothing.
        await enforceOnRecord(ctx, claimed, decodeSpec(claimed.id, claimed.spec), bound);
        replaceWarnings(ctx, claimed.id, WARNING, []);
        return { end: steady(claimed), value: undefined };
      },
    });
  } catch (error) {
    if (deadline.isAborted) throw error;
    replaceWarnings(ctx, row.id, WARNING, [(error as Error).message]);
  }
}

async function isWhole(
  ctx: VmContext,
  { id }: VmRow,
  mode: VmSpec["networkMode"],
  deadline: Deadline,
): Promise<boolean> {
  if ((await liveProcess(ctx, id, NETWORK_ROLE)) === undefined) return false;
  return mode === "user" || !ctx.tapChecks.isDue(id) || (await isTapInForce(ctx, id, deadline));
}

/** Begins what `info().warnings` says of a network that could not be brought back. */
const WARNING = "The network does not work: ";

function steady({ status, failure }: VmRow): Pick<VmRow, "status" | "failure"> {
  return { status, failure };
}
