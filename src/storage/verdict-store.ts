// Answers that are expensive to find and hold until something they depend on changes;
// whatever they depend on is part of the name.

import type { Database } from "./database.js";

export class VerdictStore {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** @param maxAgeMs Older ones are as good as none. Default: any age. */
  find(name: string, maxAgeMs = Number.POSITIVE_INFINITY): string | undefined {
    const oldest = Math.max(0, Date.now() - maxAgeMs);
    const row = this.#db.get("SELECT verdict FROM verdicts WHERE name = ? AND decided_at_ms >= ?", name, oldest);
    return row === undefined ? undefined : String(row.verdict);
  }

  save(name: string, verdict: string): void {
    this.#db.run("INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?)", name, verdict, Date.now());
  }
}
