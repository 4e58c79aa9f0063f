// The orchestrator under the `SmolVM` facade, for those who build their own: every operation on VMs by their id.

import { Deadline, shareLimit, type WaitOptions } from "../base/deadline.js";
import { within } from "../base/within.js";
import { checkWaitOptions } from "../errors/check-wait-options.js";
import { waitError } from "../errors/wait-errors.js";
import type { CommandResult } from "../guest/command-result.js";
import type { GuestCommand } from "../guest/exec-request.js";
import type { PruneResult } from "../images/image-removal.js";
import type { ImageStore } from "../images/image-store.js";
import type { RemovedEntry } from "../images/remove-unused.js";
import type { VmRow, VmStatus } from "../storage/vm-store.js";
import type { BootOptions } from "./boot-attempts.js";
import { type CheckpointInfo, checkpointVm, listCheckpoints, rewindVm } from "./checkpoints.js";
import { findVm } from "./claim.js";
import { type CommandOptions, checkArgv, checkCommandOptions, checkShellLine } from "./command-options.js";
import type { VmContext } from "./context.js";
import { type CreateOptions, createVm } from "./create-vm.js";
import { type DeletedVm, deleteVm } from "./delete-vm.js";
import { type DoctorReport, diagnoseHost } from "./diagnose-host.js";
import { type ForkedVm, type ForkOptions, forkVm } from "./fork-vm.js";
import { isBootedFrom } from "./is-booted-from.js";
import { openContext } from "./open-context.js";
import { pauseVm, resumeVm } from "./pause-vm.js";
import { VmPorts } from "./ports/vm-ports.js";
import { type ReconcileReport, reconcile } from "./reconcile.js";
import { refreshVm } from "./refresh-vm.js";
import type { RestoreVMConfig } from "./restore-config.js";
import { runInVm } from "./run-in-vm.js";
import {
  deleteSnapshot,
  findSnapshot,
  listSnapshots,
  restoreSnapshot,
  type SnapshotInfo,
  type SnapshotOptions,
  snapshotVm,
} from "./snapshots.js";
import { type SshAccess, sshAccess } from "./ssh/ssh-access.js";
import { startVm } from "./start-vm.js";
import { stopVm } from "./stop-vm.js";
import type { VMConfig } from "./vm-config.js";
import { type ManagedCalls, VmGuests } from "./vm-guests.js";
import { type VMInfo, vmInfo } from "./vm-info.js";
import { type LogOptions, readVmLogs } from "./vm-logs.js";
import { VmNetworks } from "./vm-networks.js";
import { decodeSpec } from "./vm-spec.js";

/** Longest wait for the first reconcile unless the caller says otherwise, in milliseconds. */
const OPEN_TIMEOUT_MS = 120_000;

/**
 * All VMs of one state directory. The first call brings the directory to agreement with the host.
 *
 * @example
 * await using manager = new VmManager();
 * const id = await manager.create({ memSizeMib: 1024 });
 * await manager.start(id);
 * console.log((await manager.exec(id, ["uname", "-r"])).output);
 * await manager.delete(id);
 */
export class VmManager implements AsyncDisposable {
  readonly #ctx: VmContext;
  readonly #underWay = new Set<Promise<unknown>>();
  /** What reaches into the guests of running VMs, beside {@link exec} and {@link run}. */
  readonly guests: VmGuests;
  /** Host ports that lead to guests. */
  readonly ports: VmPorts;
  /** What guests may reach. */
  readonly networks: VmNetworks;
  #opened: Promise<unknown> | undefined;
  #isOpen = false;

  /**
   * @param options `stateDir`: default `SMOLVM_STATE_DIR` or `~/.local/state/smolvm`.
   * @throws {STORAGE_FAILED} when the state directory cannot be opened.
   */
  constructor(options: { readonly stateDir?: string | undefined } = {}) {
    this.#ctx = openContext(options.stateDir);
    const calls: ManagedCalls = {
      operate: (bounds, work) => this.#operate(bounds, work),
      whenOpen: (deadline) => this.#whenOpen(deadline),
    };
    this.guests = new VmGuests(this.#ctx, calls);
    this.networks = new VmNetworks(this.#ctx, calls);
    this.ports = new VmPorts(this.#ctx, calls);
  }

  get stateDir(): string {
    return this.#ctx.paths.stateDir;
  }

  /** Makes a VM; with `start` also boots it. @see createVm for what it throws. @returns Its id. */
  async create(config?: Omit<VMConfig, "stateDir">, options?: CreateOptions): Promise<string> {
    return this.#operate(options, (rest) => createVm(this.#ctx, config, { ...options, ...rest }));
  }

  /** Boots a VM and waits until it takes commands. @see startVm for what it throws. */
  async start(vmId: string, options?: BootOptions): Promise<void> {
    return this.#operate(options, (rest) => startVm(this.#ctx, vmId, { ...options, ...rest }));
  }

  /** Shuts a VM down in order. @see stopVm for what it throws. */
  async stop(vmId: string, options?: WaitOptions): Promise<void> {
    return this.#operate(options, (rest) => stopVm(this.#ctx, vmId, { ...options, ...rest }));
  }

  /** Stops a VM's vCPUs. @see pauseVm for what it throws. */
  async pause(vmId: string, options?: WaitOptions): Promise<void> {
    return this.#operate(options, (rest) => pauseVm(this.#ctx, vmId, { ...options, ...rest }));
  }

  /** Lets a VM's vCPUs run on. @see resumeVm for what it throws. */
  async resume(vmId: string, options?: WaitOptions): Promise<void> {
    return this.#operate(options, (rest) => resumeVm(this.#ctx, vmId, { ...options, ...rest }));
  }

  /** Copies a running VM into children that go on from where it is. @see forkVm for what it throws. */
  async fork(vmId: string, options?: ForkOptions): Promise<readonly ForkedVm[]> {
    return this.#operate(options, (rest) => forkVm(this.#ctx, vmId, { ...options, ...rest }));
  }

  /** Makes a snapshot of a running VM. @see snapshotVm for what it throws. */
  async snapshot(vmId: string, options?: SnapshotOptions): Promise<SnapshotInfo> {
    return this.#operate(options, (rest) => snapshotVm(this.#ctx, vmId, { ...options, ...rest }));
  }

  /** A new VM that goes on from a snapshot. @see restoreSnapshot for what it throws. @returns Its id. */
  async restore(snapshotId: string, config?: RestoreVMConfig, options?: WaitOptions): Promise<string> {
    return this.#operate(options, (rest) => restoreSnapshot(this.#ctx, snapshotId, config, rest));
  }

  /** All snapshots of this state directory, the oldest first. */
  async listSnapshots(options?: WaitOptions): Promise<readonly SnapshotInfo[]> {
    return this.#operate(options, async () => listSnapshots(this.#ctx));
  }

  /** @throws {INVALID_CONFIG} {SNAPSHOT_NOT_FOUND} */
  async findSnapshot(snapshotId: string, options?: WaitOptions): Promise<SnapshotInfo> {
    return this.#operate(options, async () => findSnapshot(this.#ctx, snapshotId));
  }

  /** Deletes a snapshot. @see deleteSnapshot for what it throws. */
  async deleteSnapshot(snapshotId: string, options?: WaitOptions): Promise<void> {
    return this.#operate(options, () => deleteSnapshot(this.#ctx, snapshotId));
  }

  /** Makes a checkpoint of a running VM. @see checkpointVm for what it throws. */
  async checkpoint(vmId: string, options?: WaitOptions): Promise<CheckpointInfo> {
    return this.#operate(options, (rest) => checkpointVm(this.#ctx, vmId, { ...options, ...rest }));
  }

  /** The checkpoints that a VM can go back to, the oldest first. @throws {VM_NOT_FOUND} */
  async listCheckpoints(vmId: string, options?: WaitOptions): Promise<readonly CheckpointInfo[]> {
    return this.#operate(options, async () => listCheckpoints(this.#ctx, findVm(this.#ctx, vmId).id));
  }

  /** Takes a VM back to a checkpoint. @see rewindVm for what it throws. */
  async rewind(vmId: string, checkpointId: string, options?: WaitOptions): Promise<void> {
    return this.#operate(options, (rest) => rewindVm(this.#ctx, vmId, checkpointId, { ...options, ...rest }));
  }

  /** Makes a VM that was made with `lifetime: "process"` outlive this program. @throws {VM_NOT_FOUND} */
  async keep(vmId: string, options?: WaitOptions): Promise<void> {
    return this.#operate(options, async () => {
      if (!this.#ctx.store.vms.keepForever(vmId)) findVm(this.#ctx, vmId);
    });
  }

  /** Stops and deletes a VM. @see deleteVm for what it throws. */
  async delete(vmId: string, options?: WaitOptions): Promise<DeletedVm> {
    return this.#operate(options, (rest) => deleteVm(this.#ctx, vmId, { ...options, ...rest }));
  }

  /** Runs a program, no shell. @see runInVm for what it throws. */
  async exec(vmId: string, argv: readonly string[], options?: CommandOptions): Promise<CommandResult> {
    checkArgv(argv);
    return this.#command(vmId, { argv }, options);
  }

  /** Runs a line of the login shell. @see runInVm for what it throws. */
  async run(vmId: string, command: string, options?: CommandOptions): Promise<CommandResult> {
    checkShellLine(command);
    return this.#command(vmId, { shellLine: command }, options);
  }

  /** @throws {VM_NOT_FOUND} */
  async info(vmId: string, options?: WaitOptions): Promise<VMInfo> {
    return this.#operate(options, async () => {
      const row = await refreshVm(this.#ctx, findVm(this.#ctx, vmId));
      return vmInfo(this.#ctx, row ?? findVm(this.#ctx, vmId));
    });
  }

  /** How to connect with SSH. @see sshAccess for what it throws. */
  async ssh(vmId: string, options?: WaitOptions): Promise<SshAccess> {
    return this.#operate(options, (rest) => sshAccess(this.#ctx, vmId, rest));
  }

  /** The status as recorded: no look at the host. @throws {VM_NOT_FOUND} */
  recordedStatus(vmId: string): VmStatus {
    return findVm(this.#ctx, vmId).status;
  }

  /** @param options `status`: only VMs of this status. */
  async list(options: WaitOptions & { readonly status?: VmStatus | undefined } = {}): Promise<VMInfo[]> {
    return this.#operate(options, async () => {
      // A VM that cannot be brought to agreement is still listed, as it is on record.
      const refresh = (row: VmRow) => refreshVm(this.#ctx, row).catch(() => this.#ctx.store.vms.find(row.id));
      const rows = await Promise.all(this.#ctx.store.vms.list().map(refresh));
      return rows
        .flatMap((row) => (row === undefined ? [] : [vmInfo(this.#ctx, row)]))
        .filter(({ status }) => options.status === undefined || status === options.status);
    });
  }

  /** The guest's console, and what its network was refused. @see readVmLogs @throws {VM_NOT_FOUND} */
  async logs(vmId: string, options?: LogOptions): Promise<string> {
    return readVmLogs(decodeSpec(vmId, findVm(this.#ctx, vmId).spec).directory, options);
  }

  /** Brings records and host to agreement; see {@link ReconcileReport}. */
  async reconcile(): Promise<ReconcileReport> {
    return reconcile(this.#ctx, { tables: true });
  }

  /** Checks the host. @see diagnoseHost */
  async diagnose(options?: WaitOptions): Promise<DoctorReport> {
    return diagnoseHost(this.#ctx, options);
  }

  /** The images of the cache directory; to remove some, {@link removeImage} and {@link pruneImages} spare those in use. */
  get images(): Pick<ImageStore, "build" | "inspect" | "list" | "resolve" | "templates"> {
    return this.#ctx.images;
  }

  /** @throws {IMAGE_NOT_FOUND} @throws {BUSY} when a VM uses it. */
  async removeImage(nameOrDigest: string, options?: WaitOptions): Promise<RemovedEntry> {
    return this.#ctx.images.remove(nameOrDigest, { ...options, isInUse: (path) => isBootedFrom(this.#ctx, path) });
  }

  /** Removes what no VM on this cache uses. @param options `all`: also images that a name stands for. */
  async pruneImages(options?: WaitOptions & { readonly all?: boolean | undefined }): Promise<PruneResult> {
    return this.#ctx.images.prune({ ...options, isInUse: (path) => isBootedFrom(this.#ctx, path) });
  }

  /** Lets go of all VMs; they run on. Waits for calls that are under way. Calling it twice is fine. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.allSettled(this.#underWay);
    this.#ctx.close();
  }

  #command(vmId: string, command: GuestCommand, options?: CommandOptions): Promise<CommandResult> {
    const checked = checkCommandOptions(options);
    const { timeoutMs, signal } = checked;
    return this.#operate({ timeoutMs, signal }, () => runInVm(this.#ctx, vmId, command, checked));
  }

  /** Runs an operation on an opened state directory, within the caller's bounds, and known to the end of this manager. */
  async #operate<T>(options: WaitOptions | undefined, work: (rest: WaitOptions) => Promise<T>): Promise<T> {
    checkWaitOptions(options);
    const rest = shareLimit(options ?? {});
    const deadline = Deadline.from(options, OPEN_TIMEOUT_MS);
    const operation = this.#whenOpen(deadline).then(() => work(rest()));
    this.#underWay.add(operation);
    try {
      return await operation;
    } finally {
      this.#underWay.delete(operation);
    }
  }

  async #whenOpen(deadline: Deadline): Promise<unknown> {
    if (this.#isOpen) return undefined;
    return within(this.#open(), deadline, (): never => {
      throw waitError(`Opening of state directory "${this.stateDir}"`, deadline);
    });
  }

  #open(): Promise<unknown> {
    this.#opened ??= reconcile(this.#ctx).then(
      () => {
        this.#isOpen = true;
      },
      (error: unknown) => {
        this.#opened = undefined; // The next call tries again.
        throw error;
      },
    );
    return this.#opened;
  }
}
