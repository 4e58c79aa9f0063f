// Forks a running VM: children that go on from where it is, each a new machine with the same memory, disk and processes.

import { Deadline, shareLimit, type WaitOptions } from "../base/deadline.js";
import { invalidConfig } from "../errors/invalid-config.js";
import { SmolVMError } from "../errors/smolvm-error.js";
import type { CaptureRow } from "../storage/capture-store.js";
import { captureVm } from "./capture-vm.js";
import { sweepCaptures } from "./captures.js";
import { CLAIM_TIMEOUT_MS, changeVm, findVm } from "./claim.js";
import type { VmContext } from "./context.js";
import { startFromCapture } from "./start-from-capture.js";
import { decodeSpec } from "./vm-spec.js";

/** Children that one call may ask for. */
export const FORK_LIMIT = 64;

/** Options of {@link forkVm}. */
export interface ForkOptions extends WaitOptions {
  /** How many children, 1 to 64. Default 1. */
  readonly count?: number | undefined;
}

/** What became of one child. */
export type ForkedVm =
  | { readonly ok: true; readonly vmId: string }
  | { readonly ok: false; readonly error: SmolVMError };

/**
 * Copies the VM once, which stands still for a moment, and starts the children from the copy.
 *
 * @returns One entry for each child; one that cannot be started harms no other.
 * @throws {VM_NOT_FOUND} {INVALID_STATE} {INVALID_CONFIG} {UNSUPPORTED} {HOST_UNSUPPORTED} {BUSY} {STORAGE_FAILED}
 *   {ABORTED} when the VM cannot be copied: then there are no children.
 */
export async function forkVm(ctx: VmContext, vmId: string, options: ForkOptions = {}): Promise<readonly ForkedVm[]> {
  const { count = 1 } = options;
  if (!Number.isInteger(count) || count < 1 || count > FORK_LIMIT) {
    throw invalidConfig({ field: "count", value: count, expected: `a whole number from 1 to ${FORK_LIMIT}` });
  }
  const rest = shareLimit(options);
  const deadline = Deadline.from(rest(), CLAIM_TIMEOUT_MS);
  let made: CaptureRow | undefined;
  try {
    await changeVm(ctx, { vmId, verb: "fork" }, deadline, {
      work: async (row) => {
        made = await captureVm(ctx, row, { kind: "base", isSealed: false }, deadline);
        return { end: { status: row.status, failure: row.failure }, value: undefined };
      },
    });
    const capture = made;
    if (capture === undefined) throw new SmolVMError("INTERNAL", `Fork of VM "${vmId}" had nothing to do`);
    return await Promise.all(Array.from({ length: count }, () => startChild(ctx, vmId, capture, rest())));
  } finally {
    if (made !== undefined) await letGo(ctx, made);
  }
}

/** Without a child nothing stands on it. What fails here is done by a later sweep; the children matter more. */
async function letGo(ctx: VmContext, capture: CaptureRow): Promise<void> {
  try {
    ctx.store.captures.release(capture.id);
    await sweepCaptures(ctx);
  } catch {
    // The database cannot be written at the moment.
  }
}

async function startChild(
  ctx: VmContext,
  parentId: string,
  capture: CaptureRow,
  options: WaitOptions,
): Promise<ForkedVm> {
  try {
    const parent = findVm(ctx, parentId);
    const vmId = await startFromCapture(
      ctx,
      capture,
      {
        vmId: undefined,
        ports: [], // A host port leads to one VM.
        envVars: {},
        bootTimeoutMs: undefined,
        retainDiskOnDelete: decodeSpec(parentId, parent.spec).retainDiskOnDelete,
        keeper: parent.keeper,
        origin: { kind: "fork", id: parentId },
      },
      options,
    );
    return { ok: true, vmId };
  } catch (error) {
    return {
      ok: false,
      error: error instanceof SmolVMError ? error : new SmolVMError("INTERNAL", String(error), { cause: error }),
    };
  }
}
