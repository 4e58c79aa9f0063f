// Makes a VM from a configuration, and starts it where asked to: checks everything first. A failure leaves nothing.

import { randomBytes } from "node:crypto";
import { join } from "node:path";
import type { Backend, MachineDisk } from "../backends/backend.js";
import { backendFor } from "../backends/registry.js";
import { Deadline, shareLimit, type WaitOptions } from "../base/deadline.js";
import { Phases } from "../base/phases.js";
import type { ProgressListener } from "../base/progress.js";
import { isSmolVMError } from "../errors/smolvm-error.js";
import { selfIdentity } from "../host/process-identity.js";
import type { BootFiles } from "../images/boot-files.js";
import { vmExists } from "../storage/vm-store.js";
import { bootVm, IDENTIFY_TIMEOUT_MS } from "./boot-vm.js";
import { chooseAccelerator, refuseAccelerator } from "./choose-accelerator.js";
import { choosePorts } from "./choose-ports.js";
import type { VmContext } from "./context.js";
import { helperPath } from "./helper-programs.js";
import { DISK_FILE, makeVm, PrunedMeanwhile, VMS_DIRECTORY } from "./make-vm.js";
import { checkMounts } from "./mount-plan.js";
import { networkOf } from "./network-config.js";
import { requireNetwork } from "./require-network.js";
import { type CheckedConfig, checkConfig } from "./vm-config.js";
import type { VmSpec } from "./vm-spec.js";

/** Tries at an id or a host port that we choose ourselves. */
const CHOICE_ATTEMPTS = 5;
const MIB_BYTES = 1024 * 1024;

/** Options of {@link createVm}. */
export interface CreateOptions extends WaitOptions {
  /** Hears of long work: a first image build takes about a minute. */
  readonly onProgress?: ProgressListener | undefined;
  /** Also boot it: one operation, of which a failure or this program's death leaves nothing. Default false;
   * true with `SmolVM.create`. */
  readonly start?: boolean | undefined;
}

/**
 * @returns The id of the new VM, in state `created` or, with `start`, `running`.
 * @throws {INVALID_CONFIG} {UNSUPPORTED} {HOST_UNSUPPORTED} {VM_EXISTS} before any side effect.
 * @throws {IMAGE_FAILED} {STORAGE_FAILED} {PORT_IN_USE} {ABORTED} {TIMEOUT}; with `start` also what `bootVm` throws.
 */
export async function createVm(ctx: VmContext, config: unknown, options: CreateOptions = {}): Promise<string> {
  const rest = shareLimit(options);
  const { onProgress } = options;
  const checked = checkConfig(config);
  const network = networkOf(checked);
  await requireNetwork(network, Deadline.from(rest(), IDENTIFY_TIMEOUT_MS));
  const mounts = await checkMounts(checked.mounts);
  const backend = backendFor(checked.backend);
  const vmm = await backend.identify(Deadline.from(rest(), IDENTIFY_TIMEOUT_MS));
  helperPath("agent");
  if (checked.vmId !== undefined && ctx.store.vms.find(checked.vmId) !== undefined) throw vmExists(checked.vmId);
  // Before an image build: what is taken now is refused at once.
  (await choosePorts({ asked: checked.ports, hasSsh: false })).held.close();
  await refuseAccelerator(backend, checked.accel);
  const phases = new Phases("create", checked.vmId ?? "");
  for (let attempt = 1; ; attempt++) {
    const boot = await ctx.images.resolveBoot(checked, { ...rest(), onProgress });
    phases.end("image");
    const choice = { backend, vmm, asked: checked.accel, boot };
    const accelerator = await chooseAccelerator(ctx, choice, { ...rest(), onProgress });
    phases.end("accelerator");
    try {
      return await createOnce(ctx, { checked, mounts, backend, vmm, boot, accelerator }, { ...options, ...rest() });
    } catch (error) {
      if (!mayChooseAgain(error, checked) || attempt === CHOICE_ATTEMPTS) throw error;
    }
  }
}

/** Only what we chose ourselves may be chosen again: an id, a host port, or an image that was pruned meanwhile. */
function mayChooseAgain(error: unknown, { vmId, ports, commChannel }: CheckedConfig): boolean {
  return (
    error instanceof PrunedMeanwhile ||
    (isSmolVMError(error, "VM_EXISTS") && vmId === undefined) ||
    (isSmolVMError(error, "PORT_IN_USE") &&
      (commChannel === "ssh" || ports.some(({ host }) => !host)) &&
      ports.every(({ host }) => host !== error.details["hostPort"]))
  );
}

interface Ingredients {
  readonly checked: CheckedConfig;
  readonly mounts: VmSpec["mounts"];
  readonly backend: Backend;
  readonly vmm: string;
  readonly boot: BootFiles;
  readonly accelerator: VmSpec["accelerator"];
}

async function createOnce(
  ctx: VmContext,
  { checked, mounts, backend, vmm, boot, accelerator }: Ingredients,
  options: CreateOptions,
): Promise<string> {
  const vmId = checked.vmId ?? newVmId();
  const directory = join(ctx.paths.stateDir, VMS_DIRECTORY, vmId);
  const disk = diskOf(checked, boot, directory);
  const network = networkOf(checked);
  const ports = await choosePorts({ asked: checked.ports, hasSsh: checked.commChannel === "ssh" });
  await makeVm(ctx, {
    vmId,
    ports,
    spec: {
      backend: backend.name,
      vmm,
      accelerator,
      vcpuCount: checked.vcpuCount,
      memSizeMib: checked.memSizeMib,
      image: boot.image ?? null,
      kernelPath: boot.kernelPath,
      initrdPath: boot.initrdPath,
      bootArgs: checked.bootArgs,
      disk,
      isPristine: disk.mode === "isolated",
      memoryBasePath: null,
      origin: { kind: "boot", id: null },
      growRoot: disk.mode === "isolated" && disk.sizeBytes > boot.rootfsSizeBytes,
      networkMode: network.mode,
      egress: network.egress,
      rateLimitMbps: network.rateLimitMbps ?? null,
      ...(ports.ssh === undefined ? {} : { ssh: ports.ssh }),
      mounts,
      machineId: randomBytes(16).toString("hex"),
      bootTimeoutMs: checked.bootTimeoutMs,
      retainDiskOnDelete: checked.retainDiskOnDelete,
      directory,
    },
    env: checked.envVars,
    keeper: checked.lifetime === "process" ? await selfIdentity() : undefined,
    signal: options.signal,
    start: options.start ? (vm) => bootVm(ctx, vm, options) : undefined,
  }).finally(() => ports.held.close());
  return vmId;
}

/** An id for a VM that was not given one. */
export function newVmId(): string {
  return `vm-${randomBytes(4).toString("hex")}`;
}

function diskOf(checked: CheckedConfig, boot: BootFiles, directory: string): MachineDisk {
  const { rootfsPath, rootfsFormat, rootfsSizeBytes } = boot;
  if (checked.diskMode === "shared") return { mode: "shared", path: rootfsPath, format: rootfsFormat };
  const sizeBytes = checked.diskSizeMib === undefined ? rootfsSizeBytes : checked.diskSizeMib * MIB_BYTES;
  return {
    mode: "isolated",
    path: join(directory, DISK_FILE),
    layers: [],
    basePath: rootfsPath,
    baseFormat: rootfsFormat,
    sizeBytes,
  };
}
