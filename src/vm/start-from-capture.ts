// A new VM that goes on from a capture, with an identity of its own: what restoring a snapshot and forking have in common.

import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { backendFor } from "../backends/registry.js";
import { Deadline, shareLimit, type WaitOptions } from "../base/deadline.js";
import { SmolVMError } from "../errors/smolvm-error.js";
import type { ProcessIdentity } from "../host/process-identity.js";
import type { CaptureRow } from "../storage/capture-store.js";
import { attemptBoot, inTurn } from "./boot-attempts.js";
import { putDisk } from "./boot-vm.js";
import { captureFiles, decodeCapture } from "./capture-spec.js";
import { shapeDigest } from "./capture-vm.js";
import { choosePorts } from "./choose-ports.js";
import type { VmContext } from "./context.js";
import { newVmId } from "./create-vm.js";
import { type Environment, readEnvironment } from "./environment-file.js";
import { launchVm } from "./launch-vm.js";
import { DISK_FILE, makeVm, VMS_DIRECTORY } from "./make-vm.js";
import type { CheckedConfig } from "./vm-config.js";
import type { VmOrigin, VmSpec } from "./vm-spec.js";

/** What may differ between a capture and a VM that goes on from it. */
export interface CopySettings {
  readonly vmId: string | undefined;
  readonly ports: CheckedConfig["ports"];
  /** Over the environment that was captured. */
  readonly envVars: Environment;
  /** In milliseconds; `undefined`: as the captured VM. */
  readonly bootTimeoutMs: number | undefined;
  readonly retainDiskOnDelete: boolean;
  readonly keeper: ProcessIdentity | undefined;
  readonly origin: VmOrigin;
}

/**
 * @param check Run in the transaction that records the VM: throws when the capture is no longer to be used.
 * @returns The id of the new, running VM.
 * @throws {SNAPSHOT_FAILED} when this host's VMM cannot go on from it.
 * @throws {VM_EXISTS} {PORT_IN_USE} {BOOT_FAILED} {BOOT_TIMEOUT} {NETWORK_FAILED} {STORAGE_FAILED} {ABORTED}
 */
export async function startFromCapture(
  ctx: VmContext,
  capture: CaptureRow,
  settings: CopySettings,
  options: WaitOptions & { readonly check?: () => void },
): Promise<string> {
  const rest = shareLimit(options);
  const { vm: captured, directory: from } = decodeCapture(capture);
  await requireFit(capture, Deadline.from(rest(), captured.bootTimeoutMs));
  const vmId = settings.vmId ?? newVmId();
  const directory = join(ctx.paths.stateDir, VMS_DIRECTORY, vmId);
  const env = { ...(await readEnvironment(from)), ...settings.envVars };
  const { memoryPath } = captureFiles(from);
  const spec = {
    ...captured,
    disk: { ...captured.disk, path: join(directory, DISK_FILE) },
    memoryBasePath: memoryPath,
    origin: settings.origin,
    machineId: randomBytes(16).toString("hex"),
    ports: await choosePorts(settings.ports),
    bootTimeoutMs: settings.bootTimeoutMs ?? captured.bootTimeoutMs,
    retainDiskOnDelete: settings.retainDiskOnDelete,
    directory,
  };
  await makeVm(ctx, {
    ...{ vmId, spec, env, keeper: settings.keeper, signal: options.signal },
    ...(options.check === undefined ? {} : { check: options.check }),
    start: (vm) => goOn(ctx, vm, from, rest()),
  });
  return vmId;
}

/** Brings a VM up from a capture's files. Twice at most: a VMM can die of what has nothing to do with the capture. */
export async function goOn(
  ctx: VmContext,
  { vmId, spec }: { readonly vmId: string; readonly spec: VmSpec },
  captureDirectory: string,
  options: WaitOptions,
): Promise<void> {
  const { memoryPath, devicesPath } = captureFiles(captureDirectory);
  const memory = { from: "image" as const, path: memoryPath, devicesPath };
  const launched = await inTurn(ctx, vmId, options, (rest) =>
    attemptBoot(ctx, { vmId, spec }, rest, async (deadline) => {
      await putDisk(ctx, { vmId, spec });
      return launchVm(ctx, { vmId, spec, memory, role: "vm", deadline });
    }),
  );
  ctx.store.vms.setWarnings(vmId, launched.warnings);
}

/** @throws {SNAPSHOT_FAILED} */
export async function requireFit(capture: CaptureRow, deadline: Deadline): Promise<void> {
  const { vm, shape } = decodeCapture(capture);
  const found = await backendFor(vm.backend).identify(deadline);
  if (found === vm.vmm && shapeDigest(capture.vmId, vm) === shape) return;
  const text = `Cannot go on from "${capture.id}": it was made with ${vm.vmm}, and this host has ${found}`;
  throw new SmolVMError("SNAPSHOT_FAILED", text, { details: { id: capture.id, expected: vm.vmm, actual: found } });
}
