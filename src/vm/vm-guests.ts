// What reaches into the guests of running VMs: processes, environment, files.

import { Deadline, type WaitOptions } from "../base/deadline.js";
import type { CommandHooks } from "./command-hooks.js";
import { checkCommand } from "./command-options.js";
import type { VmContext } from "./context.js";
import type { Environment } from "./environment-file.js";
import {
  type DownloadOptions,
  downloadFromVm,
  filesInVm,
  type GuestFiles,
  type GuestPath,
  type TransferResult,
  type UploadOptions,
  uploadToVm,
} from "./files-in-vm.js";
import {
  attachInVm,
  type GuestProcess,
  type ProcessInfo,
  processesInVm,
  spawnInVm,
  type WhenOpen,
} from "./spawn-in-vm.js";
import { type AttachOptions, checkAttachOptions, checkSpawnOptions, type SpawnOptions } from "./spawn-options.js";
import { checkEnvironment } from "./vm-config.js";
import { changeEnvironment, checkNames, listEnvironment } from "./vm-environment.js";

/** Longest wait for a question to a guest unless the caller says otherwise, in milliseconds. */
const CALL_TIMEOUT_MS = 30_000;

/** What the manager does around each call. */
export interface ManagedCalls {
  /** Runs work on an opened state directory, within the caller's bounds. */
  operate<T>(options: WaitOptions | undefined, work: (rest: WaitOptions) => Promise<T>): Promise<T>;
  readonly whenOpen: WhenOpen;
}

export class VmGuests {
  readonly #ctx: VmContext;
  readonly #manager: ManagedCalls;

  /** @internal */
  constructor(ctx: VmContext, manager: ManagedCalls) {
    this.#ctx = ctx;
    this.#manager = manager;
  }

  /**
   * Starts a program, or a line of the login shell, to be handled while it runs.
   *
   * @throws {INVALID_CONFIG} at once. What else goes wrong is told by the process. @see runInVm
   */
  spawn(vmId: string, command: readonly string[] | string, options?: SpawnOptions): GuestProcess {
    const checked = checkSpawnOptions(options);
    const { whenOpen } = this.#manager;
    return spawnInVm(this.#ctx, { vmId, command: checkCommand(command), whenOpen }, checked);
  }

  /** Starts the user's login shell, to be talked to. Otherwise as {@link spawn}. */
  shell(vmId: string, options?: SpawnOptions): GuestProcess {
    const { whenOpen } = this.#manager;
    return spawnInVm(this.#ctx, { vmId, command: { shellLine: "" }, whenOpen }, checkSpawnOptions(options));
  }

  /** A handle to a detached process. @throws {INVALID_CONFIG} at once; the process tells of `PROCESS_NOT_FOUND`. */
  attach(vmId: string, processId: string, options?: AttachOptions): GuestProcess {
    const { whenOpen } = this.#manager;
    return attachInVm(this.#ctx, { vmId, processId, whenOpen }, checkAttachOptions(options));
  }

  /** The detached processes of a VM, the oldest first. @see processesInVm for what it throws. */
  async listProcesses(vmId: string, options?: WaitOptions): Promise<readonly ProcessInfo[]> {
    return this.#manager.operate(options, (rest) =>
      processesInVm(this.#ctx, vmId, Deadline.from(rest, CALL_TIMEOUT_MS)),
    );
  }

  /**
   * Tells of commands before and after they run, whichever handle of this program runs them.
   *
   * @param vmId `undefined`: those of all VMs.
   * @returns What takes the hooks away again.
   * @throws {INVALID_CONFIG}
   */
  use(vmId: string | undefined, hooks: CommandHooks): () => void {
    return this.#ctx.hooks.add(vmId, hooks);
  }

  /** The variables of a VM's commands. @throws {VM_NOT_FOUND} {STORAGE_FAILED} */
  async listEnv(vmId: string, options?: WaitOptions): Promise<Record<string, string>> {
    return this.#manager.operate(options, () => listEnvironment(this.#ctx, vmId));
  }

  /** Sets variables of all later commands, also after a restart. @see changeEnvironment for what it throws. */
  async setEnv(vmId: string, env: Environment, options?: WaitOptions): Promise<void> {
    const added = checkEnvironment(env);
    return this.#manager.operate(options, (rest) =>
      changeEnvironment(this.#ctx, vmId, (before) => ({ ...before, ...added }), rest),
    );
  }

  /** Removes variables; those that are not there are no error. @see changeEnvironment for what it throws. */
  async unsetEnv(vmId: string, names: readonly string[], options?: WaitOptions): Promise<void> {
    checkNames(names);
    const without = (env: Environment) =>
      Object.fromEntries(Object.entries(env).filter(([name]) => !names.includes(name)));
    return this.#manager.operate(options, (rest) => changeEnvironment(this.#ctx, vmId, without, rest));
  }

  /** The files of a VM's guest. @see GuestFiles */
  files(vmId: string): GuestFiles {
    return filesInVm(this.#ctx, vmId, this.#manager.whenOpen);
  }

  /** Copies a file or directory of this host into a VM. @see uploadTree for what it does and throws. */
  async upload(
    vmId: string,
    paths: { readonly hostPath: string; readonly guestPath: GuestPath },
    options?: UploadOptions,
  ): Promise<TransferResult> {
    return this.#manager.operate(options, (rest) => uploadToVm(this.#ctx, vmId, paths, { ...options, ...rest }));
  }

  /** Copies a file or directory of a VM to this host. @see downloadTree for what it does and throws. */
  async download(
    vmId: string,
    paths: { readonly hostPath: string; readonly guestPath: GuestPath },
    options?: DownloadOptions,
  ): Promise<TransferResult> {
    return this.#manager.operate(options, (rest) => downloadFromVm(this.#ctx, vmId, paths, { ...options, ...rest }));
  }
}
