// What a user holds: one microVM as an object. Everything it does is one call on the manager of its state directory.

import type { WaitOptions } from "../base/deadline.js";
import { invalidConfig } from "../errors/invalid-config.js";
import type { SmolVMError } from "../errors/smolvm-error.js";
import type { CheckpointInfo } from "../vm/checkpoints.js";
import type { CommandHooks } from "../vm/command-hooks.js";
import type { CommandOptions } from "../vm/command-options.js";
import type { CreateOptions } from "../vm/create-vm.js";
import type { DeletedVm } from "../vm/delete-vm.js";
import type { DownloadOptions, GuestFiles, GuestPath, TransferResult, UploadOptions } from "../vm/files-in-vm.js";
import type { ForkOptions } from "../vm/fork-vm.js";
import type { ClosePortOptions, ExposeOptions } from "../vm/ports/port-options.js";
import type { CommandResult } from "../vm/run-in-vm.js";
import { sharedManager } from "../vm/shared-manager.js";
import type { SnapshotInfo, SnapshotOptions } from "../vm/snapshots.js";
import type { GuestProcess } from "../vm/spawn-in-vm.js";
import type { SpawnOptions } from "../vm/spawn-options.js";
import type { SshAccess } from "../vm/ssh/ssh-access.js";
import { checkConfig, type VMConfig } from "../vm/vm-config.js";
import type { VMInfo, VmStatus } from "../vm/vm-info.js";
import type { LogOptions } from "../vm/vm-logs.js";
import { type PoolOptions, VmPool } from "../vm/vm-pool.js";
import { ExistingVm } from "./existing-vm.js";
import { SmolVMPool } from "./smolvm-pool.js";
import { snapshots } from "./snapshots.js";
import type { StateOptions } from "./state-options.js";
import { VmEnv } from "./vm-env.js";
import { VmHandle } from "./vm-handle.js";
import { VmNetwork } from "./vm-network.js";
import { type ExposedPort, exposedPort } from "./vm-ports.js";
import { VmProcesses } from "./vm-processes.js";

/** Options of {@link SmolVM.start}. */
export type StartOptions = Omit<CreateOptions, "start">;

/**
 * A microVM of your own.
 *
 * @example
 * await using vm = await SmolVM.create({ memSizeMib: 2048 });
 * const result = await vm.run("free -m");
 * console.log(result.output);
 */
export class SmolVM implements AsyncDisposable {
  readonly #handle: VmHandle;
  #files: GuestFiles | undefined;

  /** The environment of its commands. */
  readonly env = new VmEnv(
    () => this.#handle.made("use the environment of"),
    () => this.vmId,
  );
  /** Its guest's files, in the shape of `node:fs/promises`. @throws {INVALID_STATE} before the VM was started. */
  get fs(): GuestFiles {
    this.#files ??= this.#handle.made("use the files of").guests.files(this.vmId);
    return this.#files;
  }

  /** What its guest may reach, and what it was refused. */
  readonly network = new VmNetwork(
    () => this.#handle.made("use the network of"),
    () => this.vmId,
  );

  /** Its detached processes. */
  readonly processes = new VmProcesses(
    () => this.#handle.made("use the processes of"),
    () => this.vmId,
  );

  /**
   * The two-step form: checks the configuration and does nothing else; {@link SmolVM.start} makes and boots the VM.
   *
   * @throws {INVALID_CONFIG} naming the field.
   */
  constructor(config?: VMConfig);
  /** @internal A handle to a VM that exists. */
  constructor(existing: ExistingVm);
  constructor(from: VMConfig | ExistingVm = {}) {
    this.#handle = new VmHandle(from);
  }

  /**
   * Creates and starts a VM. A failure leaves nothing of it behind.
   *
   * @param config See {@link VMConfig}; all of it is optional.
   * @param options `start: false` only creates it.
   * @returns A handle that owns the VM: with `await using` it is deleted at the end of the scope.
   * @throws {INVALID_CONFIG} {UNSUPPORTED} {HOST_UNSUPPORTED} {VM_EXISTS} before any side effect.
   * @throws {IMAGE_FAILED} {BOOT_TIMEOUT} {BOOT_FAILED} {NETWORK_FAILED} {PORT_IN_USE} {STORAGE_FAILED} {ABORTED}
   */
  static async create(config: VMConfig = {}, options: CreateOptions = {}): Promise<SmolVM> {
    checkConfig(config);
    const { stateDir, ...rest } = config;
    const manager = sharedManager(stateDir);
    const vmId = await manager.create(rest, { start: true, ...options });
    return new SmolVM(new ExistingVm(manager, vmId, true));
  }

  /**
   * A handle to a VM that exists, whoever made it. It never deletes the VM when it goes out of scope.
   *
   * @throws {VM_NOT_FOUND}
   */
  static async fromId(vmId: string, options: StateOptions & WaitOptions = {}): Promise<SmolVM> {
    if (typeof vmId !== "string") throw invalidConfig({ field: "vmId", value: vmId, expected: "the id of a VM" });
    const manager = sharedManager(options.stateDir);
    await manager.info(vmId, options);
    return new SmolVM(new ExistingVm(manager, vmId, false));
  }

  /** All VMs of a state directory. @param options `status`: only those of this status. */
  static async list(
    options: StateOptions & WaitOptions & { readonly status?: VmStatus | undefined } = {},
  ): Promise<VMInfo[]> {
    return sharedManager(options.stateDir).list(options);
  }

  /**
   * A new VM that goes on from a snapshot, with an identity of its own: name, addresses, keys, random numbers, clock.
   *
   * @param id Id or name of the snapshot.
   * @param config `vmId ports envVars bootTimeoutMs retainDiskOnDelete lifetime stateDir`; fields of the machine only if
   *   they say what the snapshot says.
   * @returns A handle that owns the VM: with `await using` it is deleted at the end of the scope.
   * @throws {SNAPSHOT_NOT_FOUND} {INVALID_CONFIG} {SNAPSHOT_FAILED} before any side effect.
   * @throws {VM_EXISTS} {PORT_IN_USE} {BOOT_FAILED} {BOOT_TIMEOUT} {NETWORK_FAILED} {STORAGE_FAILED} {ABORTED}
   */
  static async fromSnapshot(id: string, config: VMConfig = {}, options?: WaitOptions): Promise<SmolVM> {
    checkConfig(config);
    const { stateDir, ...rest } = config;
    const manager = sharedManager(stateDir);
    return new SmolVM(new ExistingVm(manager, await manager.restore(id, rest, options), true));
  }

  /** The snapshots of a state directory. */
  static readonly snapshots = snapshots;

  /**
   * VMs that are ready before anybody asks.
   *
   * @throws {INVALID_CONFIG} naming the field.
   * @example
   * await using pool = SmolVM.pool({ size: 4, config: { memSizeMib: 256 } });
   * await using vm = await pool.acquire();
   */
  static pool(options: PoolOptions): SmolVMPool {
    const manager = sharedManager(checkConfig(options.config).stateDir);
    const adopt = (vmId: string) => new SmolVM(new ExistingVm(manager, vmId, true));
    return new SmolVMPool(new VmPool(manager, options), adopt);
  }

  get vmId(): string {
    return this.#handle.vmId;
  }

  /**
   * The status as last recorded; {@link SmolVM.info} looks whether it still holds.
   *
   * @throws {VM_NOT_FOUND} once the VM is deleted.
   */
  get status(): VmStatus {
    return this.#handle.status;
  }

  /** Boots the VM, making it first in the two-step form. Nothing happens when it runs already. Throws as `create`. */
  async start(options: StartOptions = {}): Promise<void> {
    await this.#handle.start(options);
  }

  /** Shuts the guest down in order; its disk stays. Nothing happens when it does not run. */
  async stop(options?: WaitOptions): Promise<void> {
    await this.#handle.stop(options);
  }

  /** Stops the vCPUs. @throws {INVALID_STATE} unless the VM runs or is paused. */
  async pause(options?: WaitOptions): Promise<void> {
    return this.#handle.made("pause").pause(this.vmId, options);
  }

  /** Lets the vCPUs run on. @throws {INVALID_STATE} unless the VM is paused or runs. */
  async resume(options?: WaitOptions): Promise<void> {
    return this.#handle.made("resume").resume(this.vmId, options);
  }

  /**
   * Stops and deletes the VM: disk, sockets, logs, record. Deleting twice is fine.
   *
   * @throws {STORAGE_FAILED} when a file could not be removed; call it again.
   */
  async delete(options?: WaitOptions): Promise<DeletedVm> {
    return this.#handle.delete(options);
  }

  /**
   * Makes a snapshot of memory and disk; the VM stands still for a moment and goes on.
   *
   * @param options `name`: unique in the state directory.
   * @throws {INVALID_STATE} unless the VM runs or is paused. @throws {INVALID_CONFIG} {SNAPSHOT_EXISTS} for the name.
   * @throws {UNSUPPORTED} for a shared disk. @throws {HOST_UNSUPPORTED} {STORAGE_FAILED} {BUSY} {ABORTED}
   */
  async snapshot(options?: SnapshotOptions): Promise<SnapshotInfo> {
    return this.#handle.made("make a snapshot of").snapshot(this.vmId, options);
  }

  /**
   * Children that go on from where this VM is, each a new machine: memory, files and processes are there, what either
   * side does afterwards is its own. They have no forwarded ports.
   *
   * @param options `count`: 1 to 64, default 1.
   * @returns For each child a handle that owns it, or why it could not be started.
   * @throws as {@link SmolVM.snapshot} when the VM itself cannot be copied.
   * @example
   * const [child] = await vm.fork();
   * if (child.ok) await child.vm.run("echo on my own now");
   */
  async fork(options?: ForkOptions): Promise<ForkResult[]> {
    const manager = this.#handle.made("fork");
    const children = await manager.fork(this.vmId, options);
    return children.map((child) =>
      child.ok ? { ok: true, vm: new SmolVM(new ExistingVm(manager, child.vmId, true)) } : child,
    );
  }

  /**
   * Makes a checkpoint that {@link SmolVM.rewind} goes back to. The VM keeps its eight newest; they go with it.
   *
   * @throws as {@link SmolVM.snapshot}.
   */
  async checkpoint(options?: WaitOptions): Promise<CheckpointInfo> {
    return this.#handle.made("make a checkpoint of").checkpoint(this.vmId, options);
  }

  /** The checkpoints that this VM can go back to, the oldest first. */
  async checkpoints(options?: WaitOptions): Promise<readonly CheckpointInfo[]> {
    return this.#handle.made("list the checkpoints of").listCheckpoints(this.vmId, options);
  }

  /**
   * Takes the VM back to a checkpoint, as if nothing had happened since; commands that run are lost. The checkpoint
   * stays, so that it can be gone back to again.
   *
   * @param checkpoint What {@link SmolVM.checkpoint} gave, or its id.
   * @throws {SNAPSHOT_NOT_FOUND} when it was pruned or is another VM's. @throws {SNAPSHOT_FAILED} {BOOT_FAILED} {BUSY}
   */
  async rewind(checkpoint: CheckpointInfo | string, options?: WaitOptions): Promise<void> {
    const id = typeof checkpoint === "string" ? checkpoint : checkpoint?.id;
    return this.#handle.made("rewind").rewind(this.vmId, id, options);
  }

  /** What the VM is and how it is. @throws {VM_NOT_FOUND} */
  async info(options?: WaitOptions): Promise<VMInfo> {
    return this.#handle.made("get information about").info(this.vmId, options);
  }

  /**
   * How to connect to the VM with SSH.
   *
   * @throws {UNSUPPORTED} unless it was created with `commChannel: "ssh"`.
   * @throws {VM_NOT_FOUND} @throws {INVALID_STATE} when the VM does not run, naming the call that helps.
   */
  async ssh(options?: WaitOptions): Promise<SshAccess> {
    return this.#handle.made("connect with SSH to").ssh(this.vmId, options);
  }

  /**
   * Leads a port of this host to one of the guest, also where its server listens on the guest's 127.0.0.1 alone. It stays
   * until it is closed or the VM is deleted: when this program ends, and again after each start.
   *
   * @param options `hostPort`: default a free one; `hostAddress`: default `"127.0.0.1"`, which only this host reaches.
   * @returns Where it is. The same `guestPort` and `hostPort` again give the same port.
   * @throws {PORT_IN_USE} when the host port is taken: never another one instead.
   * @throws {INVALID_CONFIG} naming the option. @throws {INVALID_STATE} when the VM does not run.
   * @throws {UNSUPPORTED} when an earlier SmolVM booted its guest. @throws {NETWORK_FAILED} {BUSY} {STORAGE_FAILED} {TIMEOUT} {ABORTED}
   * @example
   * const { hostPort, close } = await vm.expose(8000);
   * await fetch(`http://127.0.0.1:${hostPort}/`);
   */
  async expose(guestPort: number, options?: ExposeOptions): Promise<ExposedPort> {
    const manager = this.#handle.made("expose a port of");
    return exposedPort(manager, this.vmId, await manager.ports.expose(this.vmId, guestPort, options));
  }

  /** The host ports that lead to the guest, in the order in which they came: those of `ports` and those exposed since. */
  async ports(options?: WaitOptions): Promise<readonly ExposedPort[]> {
    const manager = this.#handle.made("list the ports of");
    const forwards = await manager.ports.list(this.vmId, options);
    return forwards.map((forward) => exposedPort(manager, this.vmId, forward));
  }

  /**
   * Closes a host port, whatever the VM's state is. Its connections end.
   *
   * @param options `hostAddress`: the one that it listens on, default `"127.0.0.1"`.
   * @returns Whether it was one of the VM's.
   * @throws {INVALID_CONFIG} also for the port of its SSH server. @throws {UNSUPPORTED} when an earlier SmolVM started the VM.
   * @throws {NETWORK_FAILED} {BUSY} {TIMEOUT} {ABORTED}
   */
  async closePort(hostPort: number, options?: ClosePortOptions): Promise<boolean> {
    return this.#handle.made("close a port of").ports.close(this.vmId, hostPort, options);
  }

  /**
   * The end of the guest's serial console, then what its network was refused.
   *
   * @param options `tail`: only the last so many lines; `source`: only `"console"` or `"network"`.
   */
  async logs(options?: LogOptions): Promise<string> {
    return this.#handle.made("read the logs of").logs(this.vmId, options);
  }

  /**
   * Runs a line of the guest's login shell.
   *
   * @returns How it ended; a non-zero exit is a result unless `check` is set.
   * @throws {INVALID_STATE} when the VM does not run. @throws {INVALID_CONFIG} for a bad option.
   * @throws {COMMAND_FAILED} {COMMAND_TIMEOUT} {ABORTED} {CHANNEL_CLOSED}
   * @example
   * const { output } = await vm.run("ls | wc -l", { cwd: "/etc", timeoutMs: 5_000 });
   */
  async run(command: string, options?: CommandOptions): Promise<CommandResult> {
    return this.#handle.made("run a command in").run(this.vmId, command, options);
  }

  /** Runs a program, no shell: `vm.exec(["python3", "-c", code])`. Otherwise as {@link SmolVM.run}. */
  async exec(argv: readonly string[], options?: CommandOptions): Promise<CommandResult> {
    return this.#handle.made("run a command in").exec(this.vmId, argv, options);
  }

  /**
   * Starts a program, or a line of the login shell, and gives a handle to it: await it for its result, iterate over it for
   * its output as it comes, write to its `stdin`, signal it.
   *
   * @param options `pty`: a terminal; `detached`: it outlives this program, see {@link processes}; `stdin: null`: none.
   * @throws {INVALID_CONFIG} {INVALID_STATE} at once. What else goes wrong is told by the process, as by {@link run}. A
   *   timeout or abort kills its process group and gives a result, or an error with `check`.
   * @example
   * const tail = vm.spawn(["tail", "-f", "/var/log/app"]);
   * for await (const { data } of tail) if (Buffer.from(data).includes("ready")) break; // and it is killed
   */
  spawn(command: readonly string[] | string, options?: SpawnOptions): GuestProcess {
    return this.#handle.made("run a command in").guests.spawn(this.vmId, command, options);
  }

  /**
   * Starts the user's login shell, by default on a PTY of 80 columns and 24 rows. Otherwise as {@link spawn}.
   *
   * @param options `pty: null`: no PTY; it then reads its commands from `stdin`.
   */
  shell(options: SpawnOptions = {}): GuestProcess {
    const { guests } = this.#handle.made("run a command in");
    const { pty = { cols: 80, rows: 24 }, ...rest } = options;
    return guests.shell(this.vmId, { ...rest, pty });
  }

  /**
   * Copies a file or directory of this host to `guestPath`: exactly there, or with a slash at its end into it. Modes and
   * times come along, links as links; those that lead outside are left out. What fails leaves nothing.
   *
   * @returns What was copied, and what was left out.
   * @throws A `GuestFileError` (`ENOSPC`, `EISDIR`, ...), and `ENOENT` with `details.side: "host"` where `hostPath` is not.
   * @throws {INVALID_STATE} {STORAGE_FAILED} {ABORTED} {TIMEOUT}
   * @example
   * await vm.upload("./project", "/work");
   */
  async upload(hostPath: string, guestPath: GuestPath, options?: UploadOptions): Promise<TransferResult> {
    return this.#handle.made("upload to").guests.upload(this.vmId, { hostPath, guestPath }, options);
  }

  /** The other way, as {@link upload}. @throws {TRANSFER_FAILED} when the guest sends what it must not. */
  async download(guestPath: GuestPath, hostPath: string, options?: DownloadOptions): Promise<TransferResult> {
    return this.#handle.made("download from").guests.download(this.vmId, { hostPath, guestPath }, options);
  }

  /**
   * Lets this program see commands of this VM, or refuse them, whichever handle runs them with `run`, `exec`, `spawn` or
   * `shell`. What is typed into a shell, `fs`, and OpenSSH's own sessions are not seen: it is a policy, not a barrier.
   *
   * @returns What takes the hooks away again.
   * @throws {INVALID_CONFIG}
   * @example
   * vm.use({ beforeRun: ({ argv, line }) => (line ?? argv?.[0])?.startsWith("rm") ? { refuse: "not that" } : true });
   */
  use(hooks: CommandHooks): () => void {
    return this.#handle.manager.guests.use(this.vmId, hooks);
  }

  /** {@link SmolVM.use} for all VMs of a state directory. */
  static use(hooks: CommandHooks, options: StateOptions = {}): () => void {
    return sharedManager(options.stateDir).guests.use(undefined, hooks);
  }

  /** Owned: stop and delete. Reconnected: let go, the VM stays. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#handle.isOwned) await this.delete();
  }
}

/** What became of one child of {@link SmolVM.fork}. */
export type ForkResult =
  | { readonly ok: true; readonly vm: SmolVM }
  | { readonly ok: false; readonly error: SmolVMError };
