// Checkpoints: an agent's undo. A checkpoint is a copy of a VM that this same VM can go back to.

import { randomBytes } from "node:crypto";
import { open, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { Deadline, shareLimit, type WaitOptions } from "../base/deadline.js";
import { SmolVMError } from "../errors/smolvm-error.js";
import type { CaptureRow } from "../storage/capture-store.js";
import type { VmRow } from "../storage/vm-store.js";
import { makeLayer } from "./boot-vm.js";
import { captureFiles, decodeCapture } from "./capture-spec.js";
import { captureVm } from "./capture-vm.js";
import { findCapture, sweepCaptures } from "./captures.js";
import { CLAIM_TIMEOUT_MS, changeVm } from "./claim.js";
import type { VmContext } from "./context.js";
import { failureOf } from "./failure.js";
import { releaseRuntime } from "./release-runtime.js";
import { goOn, requireFit } from "./start-from-capture.js";
import { decodeSpec } from "./vm-spec.js";

/** Checkpoints that a VM can go back to; making one more prunes its oldest. */
export const CHECKPOINTS_LIMIT = 8;
/** Top layers of a VM's disk: the one that it was made with, and those made by going back. */
const LAYER_NAME = /^disk(-[0-9a-f]{8})?\.qcow2(\.new)?$/;

/** A checkpoint. */
export interface CheckpointInfo {
  readonly id: string;
  readonly vmId: string;
  /** What its files occupy on disk, in bytes. */
  readonly allocatedBytes: number;
  /** ISO 8601. */
  readonly createdAt: string;
}

/**
 * Makes a checkpoint of a running or paused VM, which goes on afterwards as it was. A VM keeps its
 * {@link CHECKPOINTS_LIMIT} newest ones.
 *
 * @throws {VM_NOT_FOUND} {INVALID_STATE} {UNSUPPORTED} {HOST_UNSUPPORTED} {BUSY} {STORAGE_FAILED} {ABORTED}
 */
export async function checkpointVm(ctx: VmContext, vmId: string, options: WaitOptions = {}): Promise<CheckpointInfo> {
  const deadline = Deadline.from(options, CLAIM_TIMEOUT_MS);
  const capture = await changeVm(ctx, { vmId, verb: "checkpoint" }, deadline, {
    work: async (row) => {
      const value = await captureVm(ctx, row, { kind: "checkpoint", isSealed: false }, deadline);
      ctx.store.captures.release(value.id);
      for (const old of checkpointRows(ctx, vmId).slice(0, -CHECKPOINTS_LIMIT)) ctx.store.captures.makeBase(old.id);
      return { end: { status: row.status, failure: row.failure }, value };
    },
  });
  await sweepCaptures(ctx);
  if (capture === undefined) throw new SmolVMError("INTERNAL", `Checkpoint of VM "${vmId}" had nothing to do`);
  return checkpointInfo(capture);
}

/** The checkpoints that a VM can go back to, the oldest first. */
export function listCheckpoints(ctx: VmContext, vmId: string): readonly CheckpointInfo[] {
  return checkpointRows(ctx, vmId).map(checkpointInfo);
}

/**
 * Takes a VM back to one of its checkpoints: memory, processes and disk are as they were, what came after is lost. The
 * VM keeps its name, ports and address; its clock and its random numbers are new. The checkpoint stays.
 *
 * @throws {SNAPSHOT_NOT_FOUND} when it is no checkpoint of this VM, or was pruned; the VM is untouched.
 * @throws {SNAPSHOT_FAILED} when this host's VMM cannot go on from it; the VM is untouched.
 * @throws {BOOT_FAILED} {BOOT_TIMEOUT} {NETWORK_FAILED} {STORAGE_FAILED} {TIMEOUT} {ABORTED} once the VM was ended: it
 *   is then in state `error`.
 * @throws {VM_NOT_FOUND} {INVALID_STATE} {BUSY}
 */
export async function rewindVm(
  ctx: VmContext,
  vmId: string,
  checkpointId: string,
  options: WaitOptions = {},
): Promise<void> {
  const rest = shareLimit(options);
  let isUntouched = true;
  await changeVm(ctx, { vmId, verb: "rewind" }, Deadline.from(rest(), CLAIM_TIMEOUT_MS), {
    work: async (row) => {
      const checkpoint = findCapture(ctx, checkpointId, "checkpoint", "checkpoint");
      if (checkpoint.vmId !== vmId) throw foreign(checkpoint, vmId);
      await requireFit(ctx, checkpoint, rest());
      isUntouched = false;
      await goBack(ctx, row, checkpoint, rest());
      return { end: { status: "running" }, value: undefined };
    },
    afterFailure: async (row, error) => {
      if (isUntouched) return { status: row.status, failure: row.failure };
      await releaseRuntime(ctx, vmId).catch(() => {}); // What cannot be released stays on record for the next look.
      return { status: "error", failure: failureOf(error) };
    },
  });
  await sweepCaptures(ctx); // What only the state that was left stood on.
}

async function goBack(ctx: VmContext, row: VmRow, checkpoint: CaptureRow, options: WaitOptions): Promise<void> {
  const now = decodeSpec(row.id, row.spec);
  const { vm: then, directory } = decodeCapture(checkpoint);
  const path = join(now.directory, `disk-${randomBytes(4).toString("hex")}.qcow2`);
  const spec = {
    ...now,
    vmm: then.vmm,
    disk: { ...then.disk, path },
    isPristine: false,
    memoryBasePath: captureFiles(directory).memoryPath,
    origin: { kind: "checkpoint" as const, id: checkpoint.id },
  };
  await makeLayer(row.id, spec); // While the VM still runs: a disk that is full is no reason to end it.
  await releaseRuntime(ctx, row.id);
  await goOn(ctx, { vmId: row.id, spec }, directory, options);
  // What the guest had written for good is only in the checkpoint's copy from now on.
  await syncFile(captureFiles(directory).layerPath);
  await removeLeftLayers(now.directory, path);
}

/** Top layers of states that were left, also by programs that ended while they went back. */
async function removeLeftLayers(directory: string, inUse: string): Promise<void> {
  const layers = (await readdir(directory))
    .filter((name) => LAYER_NAME.test(name))
    .map((name) => join(directory, name));
  // What cannot be removed goes with the VM, or after the next time.
  for (const layer of layers) if (layer !== inUse) await rm(layer, { force: true }).catch(() => {});
}

async function syncFile(path: string): Promise<void> {
  const file = await open(path, "r");
  await file.datasync().finally(() => file.close());
}

function checkpointRows(ctx: VmContext, vmId: string): readonly CaptureRow[] {
  return ctx.store.captures.list().filter((row) => row.kind === "checkpoint" && row.vmId === vmId && row.isComplete);
}

function checkpointInfo(row: CaptureRow): CheckpointInfo {
  const { allocatedBytes } = decodeCapture(row);
  return { id: row.id, vmId: row.vmId, allocatedBytes, createdAt: new Date(row.createdAtMs).toISOString() };
}

function foreign(checkpoint: CaptureRow, vmId: string): SmolVMError {
  const text = `Cannot rewind VM "${vmId}" to checkpoint "${checkpoint.id}": it belongs to VM "${checkpoint.vmId}"`;
  return new SmolVMError("SNAPSHOT_NOT_FOUND", text, { details: { vmId, checkpoint: checkpoint.id } });
}
