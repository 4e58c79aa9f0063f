// Copies a VM at one moment while it goes on: memory, devices, and the top layer of its disk. Snapshots, checkpoints and
// forks are all made of such captures. The caller holds the VM's claim.

import { createHash, randomBytes } from "node:crypto";
import { copyFile, mkdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { backendFor } from "../backends/registry.js";
import { Deadline } from "../base/deadline.js";
import { Phases } from "../base/phases.js";
import { fileError } from "../errors/file-error.js";
import { SmolVMError } from "../errors/smolvm-error.js";
import type { GuestConnection } from "../guest/connection.js";
import { holdCommands, releaseCommands } from "../guest/hold.js";
import { selfIdentity } from "../host/process-identity.js";
import { allocatedBytes } from "../images/allocated-bytes.js";
import type { CaptureKind, CaptureRow } from "../storage/capture-store.js";
import type { VmRow } from "../storage/vm-store.js";
import { CAPTURES_DIRECTORY, type CaptureSpec, captureFiles, encodeCapture } from "./capture-spec.js";
import { removeCapture } from "./captures.js";
import type { VmContext } from "./context.js";
import { ENVIRONMENT_FILE } from "./environment-file.js";
import type { GuestAddress } from "./guest-channels.js";
import { helperPath } from "./helper-programs.js";
import { machineOf } from "./launch-vm.js";
import { recordedProcess } from "./live-process.js";
import { runtimeDirectory, VMM_ROLE } from "./resources.js";
import { sealCapture } from "./seal-capture.js";
import { decodeSpec, type VmSpec } from "./vm-spec.js";

/**
 * Frozen layers that a disk may stand on. Each fork of a fork, and each checkpoint taken after a rewind, adds one, and
 * every read of the guest may have to look through all of them.
 */
const LAYERS_LIMIT = 32;
/** The guest lets its commands go on by itself after so long, in milliseconds, should this program end meanwhile. */
const HOLD_LIMIT_MS = 10_000;
/** Longest wait for the guest's answer, in milliseconds. */
const ANSWER_LIMIT_MS = 1_000;

/** What a capture is made for. */
export interface CaptureRequest {
  readonly kind: CaptureKind;
  readonly name?: string | undefined;
  /** Whether checksums of its files are recorded, for {@link verifyCapture}. */
  readonly isSealed: boolean;
}

/**
 * @returns The capture, complete. This process holds it until it is released in the store.
 * @throws {UNSUPPORTED} for a shared disk. @throws {INVALID_STATE} when the disk stands on too many layers.
 * @throws {SNAPSHOT_EXISTS} {HOST_UNSUPPORTED} {STORAGE_FAILED} {TIMEOUT} {ABORTED} {CHANNEL_CLOSED}
 */
export async function captureVm(
  ctx: VmContext,
  row: VmRow,
  request: CaptureRequest,
  deadline: Deadline,
): Promise<CaptureRow> {
  const phases = new Phases("capture", row.id);
  const vm = decodeSpec(row.id, row.spec);
  refuse(row.id, vm);
  const id = `${request.kind === "snapshot" ? "snap" : request.kind}-${randomBytes(4).toString("hex")}`;
  const directory = join(ctx.paths.stateDir, CAPTURES_DIRECTORY, id);
  const spec = await describe(vm, row.id, directory);
  const maker = await selfIdentity();
  ctx.store.captures.insert({ ...request, name: request.name, id, vmId: row.id, spec: encodeCapture(spec), maker });
  try {
    await copyInto(ctx, { row, vm, directory }, deadline, phases);
    if (request.isSealed) await sealCapture(directory, deadline);
    phases.end("checksums");
    const complete = { ...spec, allocatedBytes: await allocatedBytes(directory) };
    ctx.store.captures.complete(id, encodeCapture(complete));
  } catch (error) {
    // What cannot be removed stays on record, for reconcile; why the copy failed matters more.
    await removeCapture(ctx, ctx.store.captures.find(id) as CaptureRow).catch(() => {});
    throw error;
  }
  return ctx.store.captures.find(id) as CaptureRow;
}

function refuse(vmId: string, vm: VmSpec): void {
  if (vm.disk.mode === "shared") {
    const text = `Cannot copy VM "${vmId}": its disk is shared, so what is in it is not this VM's alone`;
    throw new SmolVMError("UNSUPPORTED", text, { details: { vmId, field: "diskMode" } });
  }
  if (vm.disk.layers.length < LAYERS_LIMIT) return;
  const text = `Cannot copy VM "${vmId}": its disk stands on ${vm.disk.layers.length} layers, at most ${LAYERS_LIMIT} can be`;
  throw new SmolVMError("INVALID_STATE", text, {
    details: { vmId, layers: vm.disk.layers.length, limit: LAYERS_LIMIT },
    hint: "Each fork of a fork and each checkpoint after a rewind adds a layer: begin again with a new VM.",
  });
}

async function describe(vm: VmSpec, vmId: string, directory: string): Promise<CaptureSpec> {
  const disk = vm.disk as IsolatedDisk;
  const captured = { ...disk, layers: [captureFiles(directory).layerPath, ...disk.layers] };
  const shape = shapeDigest(vmId, vm);
  const baseIdentity = await baseIdentityOf(vm);
  return { vm: { ...vm, disk: captured, memoryBasePath: null }, shape, baseIdentity, directory, allocatedBytes: 0 };
}

/** What changes with the file below a disk: memory that was captured over one must not go on over another. */
export async function baseIdentityOf({ disk }: VmSpec): Promise<string> {
  const path = disk.mode === "isolated" ? disk.basePath : disk.path;
  const found = await stat(path, { bigint: true }).catch(() => undefined);
  return found === undefined ? "missing" : `${found.size} ${found.mtimeNs}`;
}

/** Two machines of the same digest can go on from the same capture. */
export function shapeDigest(vmId: string, vm: VmSpec): string {
  const shape = backendFor(vm.backend).shapeOf(machineOf({ vmId, spec: vm, memory: { from: "boot" } }, "/", undefined));
  return createHash("sha256").update(shape).digest("hex");
}

type IsolatedDisk = Extract<VmSpec["disk"], { mode: "isolated" }>;

async function copyInto(
  ctx: VmContext,
  { row, vm, directory }: { readonly row: VmRow; readonly vm: VmSpec; readonly directory: string },
  deadline: Deadline,
  phases: Phases,
): Promise<void> {
  const vmm = recordedProcess(ctx, row.id, VMM_ROLE);
  const runtimeDir = runtimeDirectory(ctx, row.id);
  if (runtimeDir === undefined || vmm === undefined) {
    throw new SmolVMError("INTERNAL", `VM "${row.id}" runs without a VMM on record`);
  }
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    await copyFile(join(vm.directory, ENVIRONMENT_FILE), join(directory, ENVIRONMENT_FILE));
  } catch (error) {
    throw fileError(`Copy VM "${row.id}"`, directory, error);
  }
  const address = { vmId: row.id, backend: vm.backend, runtimeDir };
  phases.end("prepare");
  const source = {
    pid: vmm.pid,
    runtimeDir,
    memSizeMib: vm.memSizeMib,
    memoryBasePath: vm.memoryBasePath ?? undefined,
    disk: vm.disk as IsolatedDisk,
    copierPath: helperPath("ramcopy"),
    quiesce: () => quiesce(ctx, address, deadline),
  };
  const { pauseMs, quietMs } = await backendFor(vm.backend).capture(source, captureFiles(directory), deadline);
  phases.end("copy");
  phases.tell("of it: vCPUs stopped", pauseMs);
  phases.tell("of it: commands stood still", quietMs);
}

/**
 * Makes the guest's commands stand still, so that in a copy none runs before the copy is a machine of its own, and lets
 * them outlive their clients, who are all gone in a copy. A guest that does not answer is copied all the same.
 *
 * @returns Lets them go on, and sets the guest's clock, which stood still.
 */
async function quiesce(ctx: VmContext, address: GuestAddress, deadline: Deadline): Promise<() => Promise<void>> {
  let guest: GuestConnection | undefined;
  const bound = deadline.atMost(ANSWER_LIMIT_MS);
  try {
    guest = await ctx.channels.get(address, bound);
    await holdCommands(guest, HOLD_LIMIT_MS, bound);
  } catch (error) {
    if (!(error instanceof SmolVMError)) throw error;
  }
  // Also after an abort, so not within the caller's bounds.
  return async () => {
    if (guest?.isOpen) await releaseCommands(guest, Deadline.after(ANSWER_LIMIT_MS)).catch(() => {});
  };
}
