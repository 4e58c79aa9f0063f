// The table of VMs: what each is, and who is changing it right now.
// A change of state is claimed before it begins, so that two processes never make one at once.

import { SmolVMError } from "../errors/smolvm-error.js";
import type { ProcessIdentity } from "../host/process-identity.js";
import { type Database, isConstraintError, type SqlValue } from "./database.js";
import { identityFrom, identityValues } from "./identity-columns.js";

/** The states of a VM that hold while nobody is changing it. */
export type VmStatus = "created" | "running" | "paused" | "stopped" | "error";
/** What a process is doing to a VM. */
export type VmTransition =
  | "creating"
  | "starting"
  | "stopping"
  | "pausing"
  | "resuming"
  | "capturing"
  | "rewinding"
  | "networking"
  | "deleting";

/** Why a VM is in the state `error`. */
export interface VmFailure {
  readonly code: string;
  readonly message: string;
}

/** A claimed change, and the process that makes it. */
export interface VmMove {
  readonly transition: VmTransition;
  readonly mover: ProcessIdentity;
}

/** One VM as recorded. */
export interface VmRow {
  readonly id: string;
  readonly status: VmStatus;
  /** JSON of what the VM is made of; this table does not look into it. Holds no environment values. */
  readonly spec: string;
  readonly failure: VmFailure | undefined;
  /** What did not work at its last start and did not prevent it. */
  readonly warnings: readonly string[];
  readonly move: VmMove | undefined;
  /** The VM is deleted when this process has ended; `undefined`: it outlives its creator. */
  readonly keeper: ProcessIdentity | undefined;
  readonly createdAtMs: number;
  readonly updatedAtMs: number;
}

/** A VM about to be made, and the host ports it reserves. */
export interface NewVm {
  readonly id: string;
  readonly spec: string;
  /** What {@link VmStore.freeGuestNumber} gave in the same transaction. */
  readonly guestNumber: number;
  readonly mover: ProcessIdentity;
  readonly keeper: ProcessIdentity | undefined;
}

/** How a claimed change ended. */
export interface Settlement {
  readonly status: VmStatus;
  readonly failure?: VmFailure | undefined;
}

export class VmStore {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** The smallest number from 0 that no VM has. */
  freeGuestNumber(): number {
    const row = this.#db.get(
      `SELECT min(free) AS free FROM (SELECT 0 AS free UNION ALL SELECT guest_number + 1 FROM vms)
       WHERE free NOT IN (SELECT guest_number FROM vms)`,
    );
    return Number(row?.["free"]);
  }

  /**
   * Records a VM that is about to be made, claimed by its maker.
   *
   * @throws {VM_EXISTS} when the id is taken; the holder's row is untouched.
   */
  insert(vm: NewVm): void {
    const now = Date.now();
    try {
      this.#db.run(
        `INSERT INTO vms (id, status, spec, guest_number, transition, mover_pid, mover_start, mover_boot,
                          keeper_pid, keeper_start, keeper_boot, created_at_ms, updated_at_ms)
         VALUES (?, 'created', ?, ?, 'creating', ?, ?, ?, ?, ?, ?, ?, ?)`,
        vm.id,
        vm.spec,
        vm.guestNumber,
        ...identityValues(vm.mover),
        ...identityValues(vm.keeper),
        now,
        now,
      );
    } catch (error) {
      if (!isConstraintError(error)) throw error;
      throw vmExists(vm.id);
    }
  }

  find(id: string): VmRow | undefined {
    const row = this.#db.get("SELECT * FROM vms WHERE id = ?", id);
    return row === undefined ? undefined : vmRow(row);
  }

  list(): VmRow[] {
    return this.#db.all("SELECT * FROM vms ORDER BY created_at_ms, id").map(vmRow);
  }

  /**
   * Claims a change of state, if nobody else has and the VM is in one of the states `from`.
   *
   * @param createdAtMs The VM that is meant: one of the same id that was made at another time is not claimed.
   * @returns Whether the claim was made.
   */
  claim(id: string, from: readonly VmStatus[], move: VmMove, createdAtMs?: number): boolean {
    const places = from.map(() => "?").join(", ");
    const changed = this.#db.run(
      `UPDATE vms SET transition = ?, mover_pid = ?, mover_start = ?, mover_boot = ?, updated_at_ms = ?
       WHERE id = ? AND created_at_ms = coalesce(?, created_at_ms) AND transition IS NULL AND status IN (${places})`,
      move.transition,
      ...identityValues(move.mover),
      Date.now(),
      id,
      createdAtMs ?? null,
      ...from,
    );
    return changed === 1;
  }

  /**
   * Takes over a change whose mover has died.
   *
   * @returns False when somebody else took it over first, or it was settled.
   */
  takeOver(id: string, dead: VmMove, mover: ProcessIdentity): boolean {
    const changed = this.#db.run(
      `UPDATE vms SET mover_pid = ?, mover_start = ?, mover_boot = ?, updated_at_ms = ?
       WHERE id = ? AND transition = ? AND mover_pid = ? AND mover_start = ? AND mover_boot = ?`,
      ...identityValues(mover),
      Date.now(),
      id,
      dead.transition,
      ...identityValues(dead.mover),
    );
    return changed === 1;
  }

  /** Ends a change that `mover` had claimed. */
  settle(id: string, mover: ProcessIdentity, end: Settlement): void {
    const changed = this.#db.run(
      `UPDATE vms SET status = ?, failure = ?, transition = NULL, mover_pid = NULL, mover_start = NULL,
                      mover_boot = NULL, updated_at_ms = ?
       WHERE id = ? AND mover_pid = ? AND mover_start = ? AND mover_boot = ?`,
      end.status,
      end.failure === undefined ? null : JSON.stringify(end.failure),
      Date.now(),
      id,
      ...identityValues(mover),
    );
    if (changed !== 1) {
      throw new SmolVMError("INTERNAL", `Cannot settle VM "${id}": this process does not hold its claim`);
    }
  }

  /** Replaces what is remembered of a VM's making. The caller holds the VM's claim. */
  setSpec(id: string, spec: string): void {
    this.#db.run("UPDATE vms SET spec = ? WHERE id = ?", spec, id);
  }

  /** Makes a VM outlive the process it was tied to. @returns False when there is no such VM. */
  keepForever(id: string): boolean {
    return (
      this.#db.run("UPDATE vms SET keeper_pid = NULL, keeper_start = NULL, keeper_boot = NULL WHERE id = ?", id) === 1
    );
  }

  /** Records what did not work at a start. */
  setWarnings(id: string, warnings: readonly string[]): void {
    this.#db.run("UPDATE vms SET warnings = ? WHERE id = ?", JSON.stringify(warnings), id);
  }

  /** Removes the row, which must have no resources left. */
  remove(id: string): void {
    this.#db.run("DELETE FROM vms WHERE id = ?", id);
  }
}

/** The error for an id that nothing is known of. */
export function vmNotFound(vmId: string): SmolVMError {
  return new SmolVMError("VM_NOT_FOUND", `Cannot find VM "${vmId}"`, { details: { vmId } });
}

/** The error for an id that is taken. */
export function vmExists(vmId: string): SmolVMError {
  return new SmolVMError("VM_EXISTS", `Cannot create VM "${vmId}": a VM of this id exists`, { details: { vmId } });
}

function vmRow(row: Record<string, SqlValue>): VmRow {
  const mover = identityFrom(row.mover_pid, row.mover_start, row.mover_boot);
  return {
    id: String(row.id),
    status: row.status as VmStatus,
    spec: String(row.spec),
    failure: typeof row.failure === "string" ? (JSON.parse(row.failure) as VmFailure) : undefined,
    warnings: JSON.parse(String(row.warnings)) as string[],
    move: mover === undefined ? undefined : { transition: row.transition as VmTransition, mover },
    keeper: identityFrom(row.keeper_pid, row.keeper_start, row.keeper_boot),
    createdAtMs: Number(row.created_at_ms),
    updatedAtMs: Number(row.updated_at_ms),
  };
}
