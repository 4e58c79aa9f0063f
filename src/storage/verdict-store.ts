// Answers that are expensive to find and hold until something they depend on changes;
// whatever they depend on is part of the name.

import type { Database } from "./database.js";

export class VerdictStore {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  find(name: string): string | undefined {
    const row = this.#db.get("SELECT verdict FROM verdicts WHERE name = ?", name);
    return row === undefined ? undefined : String(row.verdict);
  }

  save(name: string, verdict: string): void {
    this.#db.run("INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?)", name, verdict, Date.now());
  }
}
