// Opens the SQLite file, brings its schema up to date and turns SQLite's errors into ours.

import { chmodSync, closeSync, constants, openSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync, type DatabaseSyncInstance, type StatementSyncInstance } from "@photostructure/sqlite";
import { SmolVMError } from "../errors/smolvm-error.js";
import { type Migration, type Schema, type Shape, STATE_SCHEMA } from "./migrations.js";
import { makeOwnDirectory } from "./own-directory.js";

/** How long a statement waits for another process's transaction, in milliseconds. */
const BUSY_TIMEOUT_MS = 15_000;
/** Pause between two tries at what SQLite does not wait for by itself, in milliseconds. */
const BUSY_PAUSE_MS = 5;

/** Primary result codes of SQLite that get an error of their own (https://www.sqlite.org/rescode.html). */
const SQLITE_BUSY = 5;
const SQLITE_CONSTRAINT = 19;

/** A value that a column can hold. */
export type SqlValue = string | number | null;

/** One open database. Statements are prepared once. */
export class Database {
  readonly #db: DatabaseSyncInstance;
  readonly #statements = new Map<string, StatementSyncInstance>();
  #isInTransaction = false;

  private constructor(db: DatabaseSyncInstance) {
    this.#db = db;
  }

  /**
   * Opens or creates a database; the file becomes 0600, its directory 0700 if it is made here.
   *
   * @param schema Default: that of a state directory.
   * @throws {STORAGE_FAILED} when it cannot be opened, was written by a newer version, or others can write to its
   *   directory. @throws {BUSY}
   */
  static open(directory: string, schema: Schema = STATE_SCHEMA): Database {
    const path = join(directory, schema.file);
    try {
      makeOwnDirectory(directory);
      // Created by us first: SQLite gives its -wal and -shm files the mode of the main file.
      closeSync(openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600));
      chmodSync(path, 0o600);
      const db = new Database(new DatabaseSync(path, { timeout: BUSY_TIMEOUT_MS }));
      try {
        db.#configure(path, schema.migrations);
      } catch (error) {
        db.close();
        throw error;
      }
      return db;
    } catch (error) {
      if (error instanceof SmolVMError) throw error;
      throw new SmolVMError("STORAGE_FAILED", `Cannot open the database "${path}": ${messageOf(error)}`, {
        details: { path },
        cause: error,
      });
    }
  }

  close(): void {
    // The file stays open until the statements have been collected.
    this.#statements.clear();
    if (this.#db.isOpen) this.#db.close();
  }

  /** Runs a statement that gives no rows. @returns The number of rows it changed. */
  run(sql: string, ...values: SqlValue[]): number {
    return this.#guard(sql, (statement) => Number(statement.run(...values).changes));
  }

  /** Runs a query. @returns Its rows as plain objects. */
  all(sql: string, ...values: SqlValue[]): Record<string, SqlValue>[] {
    return this.#guard(sql, (statement) => statement.all(...values) as Record<string, SqlValue>[]);
  }

  /** Runs a query. @returns Its first row, if any. */
  get(sql: string, ...values: SqlValue[]): Record<string, SqlValue> | undefined {
    return this.all(sql, ...values)[0];
  }

  /** Names of a table's columns, in order; none when there is no such table. */
  columnsOf(table: string): readonly string[] {
    return this.all("SELECT name FROM pragma_table_info(?) ORDER BY cid", table).map(({ name }) => String(name));
  }

  /**
   * Runs `body` inside `BEGIN IMMEDIATE`: nobody else writes between its reads and its writes.
   * A transaction inside another joins it. `body` must not be asynchronous.
   */
  transaction<T>(body: () => T): T {
    if (this.#isInTransaction) return body();
    this.run("BEGIN IMMEDIATE");
    this.#isInTransaction = true;
    try {
      const value = body();
      this.run("COMMIT");
      return value;
    } catch (error) {
      this.#rollBack();
      throw error;
    } finally {
      this.#isInTransaction = false;
    }
  }

  #rollBack(): void {
    try {
      this.#db.exec("ROLLBACK");
    } catch {
      // SQLite has rolled back by itself already, as it does when the disk is full.
    }
  }

  #configure(path: string, migrations: Schema["migrations"]): void {
    this.#switchToWal();
    // NORMAL: a power cut may lose the last commits, never the file's integrity; a killed process loses nothing.
    this.#db.exec("PRAGMA synchronous = NORMAL");
    if (this.#version() !== migrations.length) this.#migrate(path, migrations);
    this.#db.exec("PRAGMA foreign_keys = ON");
  }

  #version(): number {
    return Number(this.get("PRAGMA user_version")?.user_version ?? 0);
  }

  /** In one transaction: the others find the schema that was there before, or the new one. */
  #migrate(path: string, migrations: Schema["migrations"]): void {
    // Else a table that is dropped takes along what refers to it. It cannot be switched within a transaction.
    this.#db.exec("PRAGMA foreign_keys = OFF");
    this.transaction(() => {
      const version = this.#version();
      if (version > migrations.length) {
        throw new SmolVMError(
          "STORAGE_FAILED",
          `Cannot use the database "${path}": its schema is version ${version}, this program knows up to ${migrations.length}`,
          { details: { path, version }, hint: "Update SmolVM, or choose another SMOLVM_STATE_DIR." },
        );
      }
      try {
        for (const step of migrations.slice(version)) this.#takeStep(step);
        this.#db.exec(`PRAGMA user_version = ${migrations.length}`);
      } catch (error) {
        if (version === 0) throw error; // There was nothing to bring along.
        const text = `Cannot bring the database "${path}" from version ${version} to ${migrations.length}: ${messageOf(error)}`;
        const hint = "It is as it was, for the SmolVM that made it. Choose another SMOLVM_STATE_DIR for this one.";
        throw new SmolVMError("STORAGE_FAILED", text, { details: { path, version }, hint, cause: error });
      }
    });
  }

  #takeStep(step: Migration): void {
    this.#db.exec(typeof step === "string" ? step : step(this.#shape()));
    const orphan = this.get("PRAGMA foreign_key_check");
    if (orphan === undefined) return;
    const text = `a row of "${orphan["table"]}" refers to one of "${orphan["parent"]}" that is not there`;
    throw new SmolVMError("STORAGE_FAILED", text);
  }

  #shape(): Shape {
    const tables = this.all(
      "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite#_%' ESCAPE '#'",
    );
    return Object.fromEntries(tables.map(({ name }) => [String(name), this.columnsOf(String(name)).join(", ")]));
  }

  /** The first switch of a new file fails at once while another process does the same: SQLite's own wait is not for it. */
  #switchToWal(): void {
    const givesUpAtMs = performance.now() + BUSY_TIMEOUT_MS;
    for (;;) {
      try {
        this.#db.exec("PRAGMA journal_mode = WAL");
        return;
      } catch (error) {
        const failure = translate(error);
        if (failure.code !== "BUSY" || performance.now() >= givesUpAtMs) throw failure;
        pause(BUSY_PAUSE_MS);
      }
    }
  }

  #guard<T>(sql: string, use: (statement: StatementSyncInstance) => T): T {
    try {
      let statement = this.#statements.get(sql);
      if (statement === undefined) {
        statement = this.#db.prepare(sql);
        this.#statements.set(sql, statement);
      }
      return use(statement);
    } catch (error) {
      throw translate(error);
    }
  }
}

/** True for the error of a violated UNIQUE, PRIMARY KEY, FOREIGN KEY or CHECK rule. */
export function isConstraintError(error: unknown): boolean {
  return error instanceof SmolVMError && error.details.sqliteCode === SQLITE_CONSTRAINT;
}

/** Blocks the thread, as SQLite's own waits do. */
function pause(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

function translate(error: unknown): SmolVMError {
  const extendedCode = (error as { errcode?: number }).errcode ?? 0;
  const sqliteCode = extendedCode & 0xff;
  if (sqliteCode === SQLITE_BUSY) {
    return new SmolVMError("BUSY", `The database stayed locked for ${BUSY_TIMEOUT_MS} ms`, {
      details: { sqliteCode },
      cause: error,
    });
  }
  return new SmolVMError("STORAGE_FAILED", `The database failed: ${messageOf(error)}`, {
    details: { sqliteCode },
    cause: error,
  });
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
