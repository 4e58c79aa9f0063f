// Changing a VM's state, as one piece: claim it, work, and record how it ended. Waits for others, finishes what dead
// processes left, refuses what is illegal.

import type { Deadline } from "../base/deadline.js";
import { pollUntil } from "../base/sleep.js";
import { SmolVMError } from "../errors/smolvm-error.js";
import { throwIfAborted, waitError } from "../errors/wait-errors.js";
import { selfIdentity } from "../host/process-identity.js";
import { type Settlement, type VmRow, vmNotFound } from "../storage/vm-store.js";
import type { VmContext } from "./context.js";
import { LIFECYCLE, type LifecycleVerb } from "./lifecycle.js";
import { refreshVm } from "./refresh-vm.js";
import { settleVm } from "./settle-vm.js";

/** How long a call waits for another process that is changing the VM, in milliseconds. */
export const CLAIM_TIMEOUT_MS = 120_000;

/** One change of one VM. */
export interface VmChange<T> {
  /**
   * Does it.
   *
   * @param row The VM as it was before.
   * @returns The state to record, `"removed"` when there is no record any more, and a value for the caller.
   */
  work(row: VmRow): Promise<{ readonly end: Settlement | "removed"; readonly value: T }>;
  /** The state to record when `work` fails. Default: the state before. */
  afterFailure?(row: VmRow, error: unknown): Settlement | Promise<Settlement>;
}

/** @throws {VM_NOT_FOUND} */
export function findVm(ctx: VmContext, vmId: string): VmRow {
  const row = ctx.store.vms.find(vmId);
  if (row === undefined) throw vmNotFound(vmId);
  return row;
}

/**
 * Makes the change that `verb` stands for.
 *
 * @returns What the work gave, or `undefined` when there was nothing to do.
 * @throws {VM_NOT_FOUND}
 * @throws {INVALID_STATE} naming the state and the call that helps.
 * @throws {BUSY} when another process kept changing it until the deadline.
 * @throws {ABORTED}
 */
export async function changeVm<T>(
  ctx: VmContext,
  target: { readonly vmId: string; readonly verb: LifecycleVerb },
  deadline: Deadline,
  change: VmChange<T>,
): Promise<T | undefined> {
  const { vmId, verb } = target;
  const row = await claimVm(ctx, vmId, verb, deadline);
  if (row === "already") return undefined;
  const self = await selfIdentity();
  try {
    const { end, value } = await change.work(row);
    if (end !== "removed") ctx.store.vms.settle(vmId, self, end);
    return value;
  } catch (error) {
    const end = (await change.afterFailure?.(row, error)) ?? { status: row.status, failure: row.failure };
    settleVm(ctx, vmId, self, end);
    throw error;
  }
}

/**
 * Claims the change that `verb` makes. Whoever gets a row must settle or remove it.
 *
 * @returns The VM as it was before, or `"already"` when there is nothing to do. Throws as {@link changeVm}.
 */
export async function claimVm(
  ctx: VmContext,
  vmId: string,
  verb: LifecycleVerb,
  deadline: Deadline,
): Promise<VmRow | "already"> {
  throwIfAborted(`Call ${verb}() of VM "${vmId}"`, deadline.signal);
  const claimed = await pollUntil(() => tryClaim(ctx, vmId, verb), deadline);
  if (claimed !== undefined) return claimed;
  if (deadline.isAborted) throw waitError(`Call ${verb}() of VM "${vmId}"`, deadline);
  const row = findVm(ctx, vmId);
  const text = `Cannot ${LIFECYCLE[verb].words ?? verb} VM "${vmId}": process ${row.move?.mover.pid} was still ${row.move?.transition} it after ${deadline.limitMs} ms`;
  throw new SmolVMError("BUSY", text, { details: { vmId, ...row.move } });
}

async function tryClaim(ctx: VmContext, vmId: string, verb: LifecycleVerb): Promise<VmRow | "already" | undefined> {
  const rule = LIFECYCLE[verb];
  const row = await refreshVm(ctx, findVm(ctx, vmId));
  if (row === undefined) return findVm(ctx, vmId); // Gone while we looked: this throws.
  if (row.move !== undefined) return undefined;
  if (rule.already.includes(row.status)) return "already";
  if (!rule.from.includes(row.status)) {
    const help = rule.helps[row.status];
    const text = `Cannot ${rule.words ?? verb} VM "${vmId}": it is ${row.status}${help === undefined ? "" : `; call ${help} first`}`;
    throw new SmolVMError("INVALID_STATE", text, { details: { vmId, status: row.status, helps: help } });
  }
  const move = { transition: rule.transition, mover: await selfIdentity() };
  return ctx.store.vms.claim(vmId, [row.status], move, row.createdAtMs) ? row : undefined;
}
