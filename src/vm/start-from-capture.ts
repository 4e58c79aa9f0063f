// A new VM that goes on from a capture, with an identity of its own: what restoring a snapshot and forking have in common.

import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { backendFor } from "../backends/registry.js";
import { Deadline, shareLimit, type WaitOptions } from "../base/deadline.js";
import { isSmolVMError, SmolVMError } from "../errors/smolvm-error.js";
import type { ProcessIdentity } from "../host/process-identity.js";
import type { CaptureRow } from "../storage/capture-store.js";
import { attemptBoot, type BootableVm, inTurn, verifyDisk } from "./boot-attempts.js";
import { makeLayer } from "./boot-vm.js";
import { captureFiles, decodeCapture } from "./capture-spec.js";
import { baseIdentityOf, shapeDigest } from "./capture-vm.js";
import { type ChosenPorts, choosePorts } from "./choose-ports.js";
import type { VmContext } from "./context.js";
import { newVmId } from "./create-vm.js";
import { type Environment, readEnvironment } from "./environment-file.js";
import { launchVm } from "./launch-vm.js";
import { DISK_FILE, makeVm, VMS_DIRECTORY } from "./make-vm.js";
import { requireMounts } from "./mount-plan.js";
import type { AskedNetwork } from "./network-config.js";
import type { CheckedConfig } from "./vm-config.js";
import { encodeSpec, type VmOrigin } from "./vm-spec.js";

/** Tries at a host port that we choose ourselves. */
const PORT_ATTEMPTS = 5;

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
  /** Egress and rate limit; `undefined`: as the captured VM. */
  readonly network?: AskedNetwork | undefined;
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
  await requireFit(ctx, capture, rest());
  for (let attempt = 1; ; attempt++) {
    const hasSsh = decodeCapture(capture).vm.ssh !== undefined;
    const ports = await choosePorts({ asked: settings.ports, hasSsh });
    try {
      return await startOnce(ctx, capture, { ...settings, ports }, { ...options, ...rest() });
    } catch (error) {
      // A port that we chose ourselves belongs to a VM that is stopped.
      const isTaken = isSmolVMError(error, "PORT_IN_USE");
      const isOurs = isTaken && settings.ports.every(({ host }) => host !== error.details["hostPort"]);
      if (!isOurs || attempt === PORT_ATTEMPTS) throw error;
    } finally {
      ports.held.close();
    }
  }
}

async function startOnce(
  ctx: VmContext,
  capture: CaptureRow,
  settings: Omit<CopySettings, "ports"> & { readonly ports: ChosenPorts },
  options: WaitOptions & { readonly check?: () => void },
): Promise<string> {
  const rest = shareLimit(options);
  const { vm: captured, directory: from } = decodeCapture(capture);
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
    ssh: settings.ports.ssh,
    egress: settings.network?.egress ?? captured.egress,
    rateLimitMbps: settings.network?.rateLimitMbps ?? captured.rateLimitMbps,
    bootTimeoutMs: settings.bootTimeoutMs ?? captured.bootTimeoutMs,
    retainDiskOnDelete: settings.retainDiskOnDelete,
    directory,
  };
  await makeVm(ctx, {
    ...{ vmId, spec, env, ports: settings.ports, keeper: settings.keeper, signal: options.signal },
    ...(options.check === undefined ? {} : { check: options.check }),
    start: (vm) => goOn(ctx, vm, from, rest()),
  });
  return vmId;
}

/** Brings a VM up from a capture's files. Twice at most: a VMM can die of what has nothing to do with the capture. */
export async function goOn(
  ctx: VmContext,
  { vmId, spec, held }: BootableVm,
  captureDirectory: string,
  options: WaitOptions,
): Promise<void> {
  const { memoryPath, devicesPath } = captureFiles(captureDirectory);
  const memory = { from: "image" as const, path: memoryPath, devicesPath };
  const launched = await inTurn(ctx, vmId, options, (rest) =>
    attemptBoot(ctx, { vmId, spec }, rest, async (deadline) => {
      await makeLayer(vmId, spec); // Anew for each attempt: an earlier one may have written to it.
      ctx.store.vms.setSpec(vmId, encodeSpec(spec));
      return launchVm(ctx, { vmId, spec, held, memory, role: "vm", deadline });
    }),
  );
  ctx.store.vms.setWarnings(vmId, launched.warnings);
}

/**
 * Whether a machine can go on from a capture here and now: with this VMM, over the disk that it was captured over.
 *
 * @throws {SNAPSHOT_FAILED} @throws {IMAGE_FAILED} when what the disk stands on is gone or was altered.
 */
export async function requireFit(ctx: VmContext, capture: CaptureRow, options: WaitOptions): Promise<void> {
  const rest = shareLimit(options);
  const { vm, shape, baseIdentity } = decodeCapture(capture);
  const fail = (what: string, expected: string, actual: string) =>
    new SmolVMError("SNAPSHOT_FAILED", `Cannot go on from "${capture.id}": ${what}`, {
      details: { id: capture.id, expected, actual },
    });
  await requireMounts(capture.vmId, vm.mounts);
  const found = await backendFor(vm.backend).identify(Deadline.from(rest(), vm.bootTimeoutMs));
  if (found !== vm.vmm) throw fail(`it was made with ${vm.vmm}, and this host has ${found}`, vm.vmm, found);
  const now = shapeDigest(capture.vmId, vm);
  if (now !== shape) throw fail("this version of SmolVM makes another machine of its configuration", shape, now);
  const base = await baseIdentityOf(vm);
  if (base !== baseIdentity) throw fail("the disk that it stands on was changed or is gone", baseIdentity, base);
  await verifyDisk(ctx, vm, rest());
}
