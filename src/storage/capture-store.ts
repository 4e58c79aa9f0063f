// Machines that were copied while they ran: snapshots, checkpoints, and what forks go on from.

import { SmolVMError } from "../errors/smolvm-error.js";
import type { ProcessIdentity } from "../host/process-identity.js";
import { type Database, isConstraintError, type SqlValue } from "./database.js";
import { identityFrom, identityValues } from "./identity-columns.js";

/**
 * What a capture is for. A `snapshot` stays until somebody deletes it, a `checkpoint` belongs to one VM, and a `base`
 * is only there for what stands on it: it goes with the last of them.
 */
export type CaptureKind = "snapshot" | "checkpoint" | "base";

/** A capture about to be made. */
export interface NewCapture {
  readonly id: string;
  readonly kind: CaptureKind;
  /** The VM that it is a copy of. */
  readonly vmId: string;
  /** Unique where there is one. */
  readonly name: string | undefined;
  /** JSON of what it holds; this table does not look into it. */
  readonly spec: string;
  readonly maker: ProcessIdentity;
}

/** One capture as recorded. */
export interface CaptureRow extends Omit<NewCapture, "maker"> {
  /** Whether all of it is there. */
  readonly isComplete: boolean;
  /** The process that makes it, or still needs it though nothing stands on it. */
  readonly maker: ProcessIdentity | undefined;
  readonly createdAtMs: number;
}

export class CaptureStore {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** @throws {SNAPSHOT_EXISTS} when its name is taken, or is the id of another. */
  insert(capture: NewCapture): void {
    try {
      if (capture.name !== undefined && this.find(capture.name) !== undefined) throw nameTaken(capture.name);
      this.#db.run(
        `INSERT INTO captures (id, kind, vm_id, name, spec, maker_pid, maker_start, maker_boot, created_at_ms)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
        capture.id,
        capture.kind,
        capture.vmId,
        capture.name ?? null,
        capture.spec,
        ...identityValues(capture.maker),
        Date.now(),
      );
    } catch (error) {
      if (!isConstraintError(error)) throw error;
      throw nameTaken(capture.name);
    }
  }

  /** Says that all of it is there. Its maker keeps holding it until {@link release}. */
  complete(id: string, spec: string): void {
    this.#db.run("UPDATE captures SET is_complete = 1, spec = ? WHERE id = ?", spec, id);
  }

  /** From now on only what stands on it, or its kind, keeps it. */
  release(id: string): void {
    this.#db.run("UPDATE captures SET maker_pid = NULL, maker_start = NULL, maker_boot = NULL WHERE id = ?", id);
  }

  /** Leaves it to what stands on it. */
  makeBase(id: string): void {
    this.#db.run("UPDATE captures SET kind = 'base', name = NULL WHERE id = ?", id);
  }

  /** One of this id or, among those that have names, of this name. */
  find(idOrName: string): CaptureRow | undefined {
    const row =
      this.#db.get("SELECT * FROM captures WHERE id = ?", idOrName) ??
      this.#db.get("SELECT * FROM captures WHERE name = ?", idOrName);
    return row === undefined ? undefined : captureRow(row);
  }

  /** The oldest first, whatever the host's clock did. */
  list(): CaptureRow[] {
    return this.#db.all("SELECT * FROM captures ORDER BY number").map(captureRow);
  }

  /** Forgets a capture whose files are gone. */
  remove(id: string): void {
    this.#db.run("DELETE FROM captures WHERE id = ?", id);
  }
}

function nameTaken(name: string | undefined): SmolVMError {
  return new SmolVMError("SNAPSHOT_EXISTS", `Cannot make snapshot "${name}": there is one of this name`, {
    details: { name },
  });
}

function captureRow(row: Record<string, SqlValue>): CaptureRow {
  return {
    id: String(row["id"]),
    kind: row["kind"] as CaptureKind,
    vmId: String(row["vm_id"]),
    name: typeof row["name"] === "string" ? row["name"] : undefined,
    spec: String(row["spec"]),
    isComplete: row["is_complete"] === 1,
    maker: identityFrom(row["maker_pid"], row["maker_start"], row["maker_boot"]),
    createdAtMs: Number(row["created_at_ms"]),
  };
}
