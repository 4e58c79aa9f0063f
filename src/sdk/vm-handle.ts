// What is behind a `SmolVM`: which VM it is for, whether that was made yet, and its beginning and end.

import { randomBytes } from "node:crypto";
import type { WaitOptions } from "../base/deadline.js";
import { isSmolVMError, SmolVMError } from "../errors/smolvm-error.js";
import type { BootOptions } from "../vm/boot-attempts.js";
import type { DeletedVm } from "../vm/delete-vm.js";
import { sharedManager } from "../vm/shared-manager.js";
import { checkConfig, type VMConfig } from "../vm/vm-config.js";
import type { VmStatus } from "../vm/vm-info.js";
import type { VmManager } from "../vm/vm-manager.js";
import { ExistingVm } from "./existing-vm.js";

export class VmHandle {
  readonly vmId: string;
  /** Whether the end of the scope deletes the VM. */
  readonly isOwned: boolean;
  readonly #manager: () => VmManager;
  /** The configuration of a VM that was not made yet. */
  #pendingConfig: Omit<VMConfig, "stateDir"> | undefined;
  /** The two-step form's start while it is under way. */
  #starting: Promise<unknown> | undefined;

  /** @throws {INVALID_CONFIG} naming the field. */
  constructor(from: VMConfig | ExistingVm) {
    if (from instanceof ExistingVm) {
      this.#manager = () => from.manager;
      this.vmId = from.vmId;
      this.isOwned = from.isOwned;
      return;
    }
    checkConfig(from);
    const { stateDir, ...config } = from;
    this.vmId = config.vmId ?? `vm-${randomBytes(4).toString("hex")}`;
    this.#pendingConfig = { ...config, vmId: this.vmId };
    this.#manager = () => sharedManager(stateDir); // Opens the state directory: nothing exists before `start()`.
    this.isOwned = true;
  }

  /** For what needs no VM. @throws {STORAGE_FAILED} */
  get manager(): VmManager {
    return this.#manager();
  }

  /** @throws {VM_NOT_FOUND} once the VM is deleted. */
  get status(): VmStatus {
    return this.#pendingConfig === undefined ? this.manager.recordedStatus(this.vmId) : "created";
  }

  /**
   * For what needs a VM.
   *
   * @param action Completes "Cannot ... VM".
   * @throws {INVALID_STATE} when there is no VM yet.
   */
  made(action: string): VmManager {
    if (this.#pendingConfig === undefined) return this.manager;
    const text = `Cannot ${action} VM "${this.vmId}": it was not started; call start() first`;
    throw new SmolVMError("INVALID_STATE", text, {
      details: { vmId: this.vmId, status: "created", helps: "start()" },
    });
  }

  /** Boots the VM, making it first in the two-step form. Many calls at once are one. */
  async start(options: BootOptions): Promise<void> {
    if (this.#pendingConfig === undefined) return this.manager.start(this.vmId, options);
    this.#starting ??= this.manager
      .create(this.#pendingConfig, { ...options, start: true })
      .then(() => {
        this.#pendingConfig = undefined;
      })
      .finally(() => {
        this.#starting = undefined;
      });
    await this.#starting;
  }

  async stop(options?: WaitOptions): Promise<void> {
    if (this.#pendingConfig === undefined) await this.manager.stop(this.vmId, options);
  }

  /** Deleting twice is fine. */
  async delete(options?: WaitOptions): Promise<DeletedVm> {
    await this.#starting?.catch(() => {}); // It leaves nothing when it fails, and a VM when it succeeds.
    if (this.#pendingConfig !== undefined) return {};
    try {
      return await this.manager.delete(this.vmId, options);
    } catch (error) {
      if (isSmolVMError(error, "VM_NOT_FOUND")) return {};
      throw error;
    }
  }
}
