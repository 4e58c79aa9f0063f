// The environment of a VM's commands, as `vm.env`.

import type { WaitOptions } from "../base/deadline.js";
import type { Environment } from "../vm/environment-file.js";
import type { VmManager } from "../vm/vm-manager.js";

/** Variables of all later commands of a VM; they stay over restarts. Values are kept byte by byte. */
export class VmEnv {
  readonly #manager: () => VmManager;
  readonly #vmId: () => string;

  /** @internal */
  constructor(manager: () => VmManager, vmId: () => string) {
    this.#manager = manager;
    this.#vmId = vmId;
  }

  /**
   * Sets variables; the others stay.
   *
   * With `commChannel: "ssh"` the server takes new sessions again a moment later; what runs is not disturbed.
   *
   * @throws {INVALID_CONFIG} without showing names or values: a name is of letters, digits and _, a value has no NUL.
   * @throws {INVALID_STATE} when the VM is paused. @throws {STORAGE_FAILED} The old variables stay.
   * @example
   * await vm.env.set({ API_KEY: key, MOTD: "two\nlines" });
   */
  async set(env: Environment, options?: WaitOptions): Promise<void> {
    return this.#manager().guests.setEnv(this.#vmId(), env, options);
  }

  /** Removes variables; what is not there is no error. Otherwise as {@link set}. */
  async unset(names: readonly string[], options?: WaitOptions): Promise<void> {
    return this.#manager().guests.unsetEnv(this.#vmId(), names, options);
  }

  /** All variables. @throws {STORAGE_FAILED} */
  async list(options?: WaitOptions): Promise<Record<string, string>> {
    return this.#manager().guests.listEnv(this.#vmId(), options);
  }
}
