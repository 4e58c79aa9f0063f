// What `SmolVM.pool` gives: a pool whose VMs are handles.

import type { WaitOptions } from "../base/deadline.js";
import type { PoolStats, VmPool } from "../vm/vm-pool.js";
import type { SmolVM } from "./smolvm.js";

/**
 * VMs of one configuration, kept ready. What nobody took is deleted when the pool is closed, or after the program's end
 * by the next reconcile.
 */
export class SmolVMPool implements AsyncDisposable {
  readonly #pool: VmPool;
  readonly #adopt: (vmId: string) => SmolVM;

  /** @internal Use `SmolVM.pool`. */
  constructor(pool: VmPool, adopt: (vmId: string) => SmolVM) {
    this.#pool = pool;
    this.#adopt = adopt;
  }

  /**
   * Takes a VM out of the pool. Who asks first is served first.
   *
   * @param options `timeoutMs`: default 120 000.
   * @returns A handle that owns the VM: with `await using` it is deleted at the end of the scope, not given back.
   * @throws {TIMEOUT} {ABORTED} {INVALID_STATE} when the pool is closed. @throws what `SmolVM.create` throws, when it
   *   had to wait for a VM that could not be made.
   */
  async acquire(options?: WaitOptions): Promise<SmolVM> {
    return this.#adopt(await this.#pool.acquire(options));
  }

  /** How it is doing. */
  stats(): PoolStats {
    return this.#pool.stats();
  }

  /** Waits until the pool is full. @throws {TIMEOUT} {ABORTED} {INVALID_STATE} */
  async filled(options?: WaitOptions): Promise<void> {
    return this.#pool.filled(options);
  }

  /** Deletes the VMs that nobody took; calls that wait fail. Closing twice is fine. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#pool[Symbol.asyncDispose]();
  }
}
