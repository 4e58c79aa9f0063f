// The detached processes of a VM, as `vm.processes`.

import type { WaitOptions } from "../base/deadline.js";
import type { GuestProcess, ProcessInfo } from "../vm/spawn-in-vm.js";
import type { AttachOptions } from "../vm/spawn-options.js";
import type { VmManager } from "../vm/vm-manager.js";

/** Processes that were started with `detached: true`, by this program or another. */
export class VmProcesses {
  readonly #manager: () => VmManager;
  readonly #vmId: () => string;

  /** @internal */
  constructor(manager: () => VmManager, vmId: () => string) {
    this.#manager = manager;
    this.#vmId = vmId;
  }

  /** Those that run, and the last that have ended; the oldest first. @throws {INVALID_STATE} when the VM does not run. */
  async list(options?: WaitOptions): Promise<readonly ProcessInfo[]> {
    return this.#manager().guests.listProcesses(this.#vmId(), options);
  }

  /**
   * A handle to a process: its output from an offset on, its stdin, its end. The end of the handle leaves it alone.
   *
   * @param id As {@link list} tells, or `GuestProcess.id`.
   * @param options `offset`: where its output is to begin; the guest keeps the last 256 KiB, what is older is skipped.
   * @throws {INVALID_CONFIG} at once. The process itself rejects with `PROCESS_NOT_FOUND`.
   * @example
   * for await (const { data, offset } of vm.processes.attach(id, { offset: seen })) seen = offset + data.length;
   */
  attach(id: string, options?: AttachOptions): GuestProcess {
    return this.#manager().guests.attach(this.#vmId(), id, options);
  }
}
