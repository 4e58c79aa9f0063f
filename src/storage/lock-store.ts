// Named locks between processes, for work that only one should do, such as building an image.
// A lock dies with its holder: whoever wants it next takes it over.

import type { Deadline } from "../base/deadline.js";
import { pollUntil } from "../base/sleep.js";
import { SmolVMError } from "../errors/smolvm-error.js";
import { waitError } from "../errors/wait-errors.js";
import { isAlive, type ProcessIdentity, selfIdentity } from "../host/process-identity.js";
import type { Database } from "./database.js";
import { identityFrom, identityValues } from "./identity-columns.js";

export class LockStore {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /**
   * Runs `body` while holding a lock.
   *
   * @throws {BUSY} when another living process held it until the deadline.
   * @throws {ABORTED}
   */
  async withLock<T>(name: string, body: () => Promise<T>, deadline: Deadline): Promise<T> {
    const self = await selfIdentity();
    const isTaken = await pollUntil(async () => ((await this.#tryTake(name, self)) ? true : undefined), deadline);
    if (isTaken === undefined) {
      if (deadline.isAborted) throw waitError(`Wait for lock "${name}"`, deadline);
      const holder = this.#holder(name);
      throw new SmolVMError("BUSY", `Lock "${name}" stayed with process ${holder?.pid} for ${deadline.limitMs} ms`, {
        details: { lock: name, pid: holder?.pid },
      });
    }
    try {
      return await body();
    } finally {
      this.#remove(name, self);
    }
  }

  async #tryTake(name: string, self: ProcessIdentity): Promise<boolean> {
    const holder = this.#holder(name);
    if (holder !== undefined) {
      if (await isAlive(holder)) return false;
      this.#remove(name, holder);
    }
    return this.#db.run("INSERT OR IGNORE INTO locks VALUES (?, ?, ?, ?)", name, ...identityValues(self)) === 1;
  }

  #holder(name: string): ProcessIdentity | undefined {
    const row = this.#db.get("SELECT * FROM locks WHERE name = ?", name);
    return identityFrom(row?.pid, row?.start_time, row?.boot_id);
  }

  #remove(name: string, holder: ProcessIdentity): void {
    this.#db.run(
      "DELETE FROM locks WHERE name = ? AND pid = ? AND start_time = ? AND boot_id = ?",
      name,
      ...identityValues(holder),
    );
  }
}
