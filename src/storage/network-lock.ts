// One at a time among all processes that change the host's network. The lock is an open transaction, so it ends with its
// holder, however that ends.

import type { Deadline } from "../base/deadline.js";
import { pollUntil } from "../base/sleep.js";
import { Slots } from "../base/slots.js";
import { isSmolVMError, SmolVMError } from "../errors/smolvm-error.js";
import { waitError } from "../errors/wait-errors.js";
import { Database } from "./database.js";
import { NETWORK_LOCK_SCHEMA } from "./migrations.js";

/** Longest pause between two tries, in milliseconds. The lock is held for about 5. */
const LONGEST_PAUSE_MS = 4;

export class NetworkLock {
  readonly #db: Database;
  /** Who waits in this process waits here, in order. */
  readonly #queue = new Slots(1);

  /** @throws {STORAGE_FAILED} */
  constructor(directory: string) {
    this.#db = Database.open(directory, NETWORK_LOCK_SCHEMA);
    // Another process's turn is waited for between tries, not inside one: that would hold up this whole program.
    this.#db.get("PRAGMA busy_timeout = 0");
  }

  /**
   * Runs `body` while holding the lock. `body` must not ask for it again.
   *
   * @throws {BUSY} when others held it until the deadline. @throws {ABORTED}
   */
  async run<T>(body: () => Promise<T>, deadline: Deadline): Promise<T> {
    const late = (): never => {
      if (deadline.isAborted) throw waitError("Wait for the network's lock", deadline);
      const text = `Other processes were changing the host's network for ${deadline.limitMs} ms`;
      throw new SmolVMError("BUSY", text, { details: { timeoutMs: deadline.limitMs } });
    };
    return this.#queue.run(deadline, late, async () => {
      const isTaken = await pollUntil(() => (this.#tryTake() ? true : undefined), deadline, LONGEST_PAUSE_MS);
      if (isTaken === undefined) return late();
      try {
        return await body();
      } finally {
        this.#db.run("ROLLBACK");
      }
    });
  }

  close(): void {
    this.#db.close();
  }

  #tryTake(): boolean {
    try {
      this.#db.run("BEGIN IMMEDIATE");
      return true;
    } catch (error) {
      if (isSmolVMError(error, "BUSY")) return false;
      throw error;
    }
  }
}
