// Makes a VM, and boots it where asked to: checks everything, then record, directory, disk. A failure leaves nothing.

import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Backend, MachineDisk } from "../backends/backend.js";
import { backendFor } from "../backends/registry.js";
import { Deadline, shareLimit, type WaitOptions } from "../base/deadline.js";
import type { ProgressListener } from "../base/progress.js";
import { fileError } from "../errors/file-error.js";
import { isSmolVMError, SmolVMError } from "../errors/smolvm-error.js";
import { throwIfAborted } from "../errors/wait-errors.js";
import { selfIdentity } from "../host/process-identity.js";
import type { BootFiles } from "../images/boot-files.js";
import { vmExists } from "../storage/vm-store.js";
import { bootVm } from "./boot-vm.js";
import { chooseAccelerator, refuseAccelerator } from "./choose-accelerator.js";
import { choosePorts } from "./choose-ports.js";
import type { VmContext } from "./context.js";
import { writeEnvironment } from "./environment-file.js";
import { failureOf } from "./failure.js";
import { helperPath } from "./helper-programs.js";
import { refuseUnsupported } from "./refuse-unsupported.js";
import { removeVm } from "./remove-vm.js";
import { settleVm } from "./settle-vm.js";
import { type CheckedConfig, checkConfig, networkModeOf } from "./vm-config.js";
import { encodeSpec, type VmSpec } from "./vm-spec.js";

/** Directory of all VMs' own directories, below the state directory. */
export const VMS_DIRECTORY = "vms";
/** Name of an isolated disk in the VM's directory. */
const DISK_FILE = "disk.qcow2";
/** Longest wait for the VMM to say who it is, in milliseconds. */
const IDENTIFY_TIMEOUT_MS = 20_000;
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
  refuseUnsupported(checked);
  const backend = backendFor(checked.backend);
  const vmm = await backend.identify(Deadline.from(rest(), IDENTIFY_TIMEOUT_MS));
  helperPath("agent");
  if (checked.vmId !== undefined && ctx.store.vms.find(checked.vmId) !== undefined) throw vmExists(checked.vmId);
  await choosePorts(checked.ports); // Before an image build: what is taken now is refused at once.
  await refuseAccelerator(backend, checked.accel);
  for (let attempt = 1; ; attempt++) {
    const boot = await ctx.images.resolveBoot(checked, { ...rest(), onProgress });
    const choice = { backend, vmm, asked: checked.accel, boot };
    const accelerator = await chooseAccelerator(ctx, choice, { ...rest(), onProgress });
    try {
      return await createOnce(ctx, { checked, backend, boot, accelerator }, { ...options, ...rest() });
    } catch (error) {
      if (!mayChooseAgain(error, checked) || attempt === CHOICE_ATTEMPTS) throw error;
    }
  }
}

/** Only what we chose ourselves may be chosen again: an id, a host port, or an image that was pruned meanwhile. */
function mayChooseAgain(error: unknown, { vmId, ports }: CheckedConfig): boolean {
  return (
    error instanceof PrunedMeanwhile ||
    (isSmolVMError(error, "VM_EXISTS") && vmId === undefined) ||
    (isSmolVMError(error, "PORT_IN_USE") && ports.some(({ host }) => !host))
  );
}

/** The image went between being found and being on record as used. */
class PrunedMeanwhile extends SmolVMError {
  constructor(path: string) {
    super("IMAGE_FAILED", `Cannot create a VM from "${path}": it was removed meanwhile`, { details: { path } });
  }
}

interface Ingredients {
  readonly checked: CheckedConfig;
  readonly backend: Backend;
  readonly boot: BootFiles;
  readonly accelerator: VmSpec["accelerator"];
}

async function createOnce(
  ctx: VmContext,
  { checked, backend, boot, accelerator }: Ingredients,
  options: CreateOptions,
): Promise<string> {
  const id = checked.vmId ?? `vm-${randomBytes(4).toString("hex")}`;
  const self = await selfIdentity();
  const ports = await choosePorts(checked.ports);
  const directory = join(ctx.paths.stateDir, VMS_DIRECTORY, id);
  const disk = diskOf(checked, boot, directory);
  const spec: VmSpec = {
    backend: backend.name,
    accelerator,
    vcpuCount: checked.vcpuCount,
    memSizeMib: checked.memSizeMib,
    image: boot.image ?? null,
    kernelPath: boot.kernelPath,
    initrdPath: boot.initrdPath,
    bootArgs: checked.bootArgs,
    disk,
    growRoot: disk.mode === "isolated" && disk.sizeBytes > boot.rootfsSizeBytes,
    networkMode: networkModeOf(checked) === "none" ? "none" : "user",
    ports,
    machineId: randomBytes(16).toString("hex"),
    bootTimeoutMs: checked.bootTimeoutMs,
    retainDiskOnDelete: checked.retainDiskOnDelete,
    directory,
  };
  const keeper = checked.lifetime === "process" ? self : undefined;
  ctx.cache().addTenant(ctx.paths.stateDir); // Before the row: a prune from elsewhere has to look here.
  ctx.store.transaction(() => {
    ctx.store.vms.insert({ id, spec: encodeSpec(spec), mover: self, keeper });
    ctx.store.ports.reserve(id, ports);
    ctx.store.resources.plan(id, [{ kind: "directory", name: directory }]);
  });
  try {
    throwIfAborted(`Creation of VM "${id}"`, options.signal);
    const gone = [spec.kernelPath, spec.initrdPath, boot.rootfsPath].find((path) => !existsSync(path));
    if (gone !== undefined) throw new PrunedMeanwhile(gone);
    await makeDirectory(id, directory);
    await writeEnvironment(directory, checked.envVars);
    await backend.prepareDisk(disk).catch((error: unknown) => {
      throw error instanceof SmolVMError ? error : fileError(`Create the disk of VM "${id}"`, directory, error);
    });
    if (options.start) {
      options.onProgress?.({ step: "Booting" });
      await bootVm(ctx, { vmId: id, spec }, options);
    }
    ctx.store.vms.settle(id, self, { status: options.start ? "running" : "created" });
  } catch (error) {
    const row = ctx.store.vms.find(id);
    if (row !== undefined) {
      // What cannot be removed stays on record and can be deleted again; why the creation failed matters more.
      await removeVm(ctx, row).catch((left: unknown) =>
        settleVm(ctx, id, self, { status: "error", failure: failureOf(left) }),
      );
    }
    throw error;
  }
  return id;
}

/** The row of this id is ours, so whatever lies here is nobody's: it goes, and is never adopted. */
async function makeDirectory(id: string, directory: string): Promise<void> {
  try {
    await rm(directory, { recursive: true, force: true });
    await mkdir(directory, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw fileError(`Create VM "${id}"`, directory, error);
  }
}

function diskOf(checked: CheckedConfig, boot: BootFiles, directory: string): MachineDisk {
  const { rootfsPath, rootfsFormat, rootfsSizeBytes } = boot;
  if (checked.diskMode === "shared") return { mode: "shared", path: rootfsPath, format: rootfsFormat };
  const sizeBytes = checked.diskSizeMib === undefined ? rootfsSizeBytes : checked.diskSizeMib * MIB_BYTES;
  return {
    mode: "isolated",
    path: join(directory, DISK_FILE),
    basePath: rootfsPath,
    baseFormat: rootfsFormat,
    sizeBytes,
  };
}
