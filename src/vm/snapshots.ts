// Snapshots: copies of a VM that stay until they are deleted, and new VMs that go on from them.

import { Deadline, shareLimit, type WaitOptions } from "../base/deadline.js";
import { SmolVMError } from "../errors/smolvm-error.js";
import { selfIdentity } from "../host/process-identity.js";
import type { CaptureRow } from "../storage/capture-store.js";
import { decodeCapture } from "./capture-spec.js";
import { captureVm } from "./capture-vm.js";
import { checkCaptureId, findCapture, isStoodOn, removeCapture, sweepCaptures } from "./captures.js";
import { CLAIM_TIMEOUT_MS, changeVm } from "./claim.js";
import type { VmContext } from "./context.js";
import { filesOf } from "./is-booted-from.js";
import { checkRestoreConfig } from "./restore-config.js";
import { verifyCapture } from "./seal-capture.js";
import { startFromCapture } from "./start-from-capture.js";
import { decodeSpec } from "./vm-spec.js";

const MIB_BYTES = 1024 * 1024;

/** Options of {@link snapshotVm}. */
export interface SnapshotOptions extends WaitOptions {
  /** A name for it, unique in the state directory: as ids of VMs are. Default none. */
  readonly name?: string | undefined;
}

/** A snapshot. */
export interface SnapshotInfo {
  readonly id: string;
  readonly name: string | null;
  /** The VM that it was made of; it may be gone. */
  readonly vmId: string;
  readonly vcpuCount: number;
  readonly memSizeMib: number;
  readonly diskSizeMib: number;
  readonly image: { readonly name: string; readonly digest: string } | null;
  readonly network: "none" | "user" | "tap";
  readonly backend: string;
  /** What its files occupy on disk, in bytes. */
  readonly allocatedBytes: number;
  /** ISO 8601. */
  readonly createdAt: string;
}

/**
 * Makes a snapshot of a running or paused VM, which goes on afterwards as it was.
 *
 * @throws {INVALID_CONFIG} naming `name`. @throws {SNAPSHOT_EXISTS} when the name is taken.
 * @throws {VM_NOT_FOUND} {INVALID_STATE} {UNSUPPORTED} {HOST_UNSUPPORTED} {BUSY} {STORAGE_FAILED} {ABORTED}
 */
export async function snapshotVm(ctx: VmContext, vmId: string, options: SnapshotOptions = {}): Promise<SnapshotInfo> {
  const { name } = options;
  if (name !== undefined) checkCaptureId(name, "name");
  const deadline = Deadline.from(options, CLAIM_TIMEOUT_MS);
  const capture = await changeVm(ctx, { vmId, verb: "snapshot" }, deadline, {
    work: async (row) => {
      const value = await captureVm(ctx, row, { kind: "snapshot", name, isSealed: true }, deadline);
      ctx.store.captures.release(value.id);
      return { end: { status: row.status, failure: row.failure }, value };
    },
  });
  if (capture === undefined) throw new SmolVMError("INTERNAL", `Snapshot of VM "${vmId}" had nothing to do`);
  return snapshotInfo(capture);
}

/** Complete snapshots, the oldest first. */
export function listSnapshots(ctx: VmContext): readonly SnapshotInfo[] {
  const rows = ctx.store.captures.list().filter(({ kind, isComplete }) => kind === "snapshot" && isComplete);
  return rows.map(snapshotInfo);
}

/** @throws {INVALID_CONFIG} {SNAPSHOT_NOT_FOUND} */
export function findSnapshot(ctx: VmContext, id: string): SnapshotInfo {
  return snapshotInfo(findCapture(ctx, id, "snapshot"));
}

/**
 * Deletes a snapshot.
 *
 * @throws {BUSY} while a VM, another snapshot or a kept disk stands on it.
 * @throws {INVALID_CONFIG} {SNAPSHOT_NOT_FOUND} {STORAGE_FAILED}
 */
export async function deleteSnapshot(ctx: VmContext, id: string): Promise<void> {
  const row = ctx.store.transaction(() => {
    const found = findCapture(ctx, id, "snapshot");
    if (isStoodOn(ctx, found)) throw stoodOn(ctx, found);
    ctx.store.captures.makeBase(found.id); // Nobody can start from it any more, and a sweep finishes what we do not.
    return found;
  });
  await removeCapture(ctx, row);
  await sweepCaptures(ctx); // What only it stood on.
}

function stoodOn(ctx: VmContext, row: CaptureRow): SmolVMError {
  const { directory } = decodeCapture(row);
  const needs = (paths: readonly string[]) => paths.some((path) => path.startsWith(`${directory}/`));
  const vms = ctx.store.vms.list().filter((vm) => needs(filesOf(decodeSpec(vm.id, vm.spec))));
  const others = ctx.store.captures
    .list()
    .filter((other) => other.id !== row.id && needs(filesOf(decodeCapture(other).vm)));
  const details = { snapshot: row.id, vms: vms.map(({ id }) => id), captures: others.map(({ id }) => id) };
  const who = [...details.vms.map((vm) => `VM "${vm}"`), ...details.captures.map((other) => `"${other}"`)];
  const text = `Cannot delete snapshot "${row.id}": ${who.join(", ") || "a kept disk"} stands on it`;
  return new SmolVMError("BUSY", text, { details, hint: "Delete what stands on it first." });
}

/**
 * A new VM that goes on from a snapshot, with an identity of its own.
 *
 * @param config What is not part of the machine: `vmId ports envVars bootTimeoutMs retainDiskOnDelete lifetime`.
 * @returns Its id; it runs.
 * @throws {SNAPSHOT_NOT_FOUND} @throws {SNAPSHOT_FAILED} when it is damaged or was made with another VMM.
 * @throws {INVALID_CONFIG} naming a field that would change the machine.
 * @throws {VM_EXISTS} {PORT_IN_USE} {BOOT_FAILED} {BOOT_TIMEOUT} {NETWORK_FAILED} {STORAGE_FAILED} {ABORTED}
 */
export async function restoreSnapshot(
  ctx: VmContext,
  id: string,
  config: unknown,
  options: WaitOptions = {},
): Promise<string> {
  const rest = shareLimit(options);
  const row = findCapture(ctx, id, "snapshot");
  const { vm, directory } = decodeCapture(row);
  const { vmId, ports, envVars, bootTimeoutMs, retainDiskOnDelete, lifetime, network } = checkRestoreConfig(config, vm);
  await verifyCapture(directory, Deadline.from(rest(), CLAIM_TIMEOUT_MS));
  const keeper = lifetime === "process" ? await selfIdentity() : undefined;
  const origin = { kind: "snapshot" as const, id: row.id };
  return startFromCapture(
    ctx,
    row,
    { vmId, ports, envVars, bootTimeoutMs, retainDiskOnDelete, keeper, origin, network },
    { ...rest(), check: () => void findCapture(ctx, row.id, "snapshot") },
  );
}

function snapshotInfo(row: CaptureRow): SnapshotInfo {
  const { vm, allocatedBytes } = decodeCapture(row);
  return {
    id: row.id,
    name: row.name ?? null,
    vmId: row.vmId,
    vcpuCount: vm.vcpuCount,
    memSizeMib: vm.memSizeMib,
    diskSizeMib: vm.disk.mode === "isolated" ? vm.disk.sizeBytes / MIB_BYTES : 0,
    image: vm.image,
    network: vm.networkMode,
    backend: vm.backend,
    allocatedBytes,
    createdAt: new Date(row.createdAtMs).toISOString(),
  };
}
