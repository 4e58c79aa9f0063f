// Host ports that belong to VMs. A port is a VM's from its creation, or from when it was exposed, until it is closed or the
// VM is deleted: also while the VM is stopped.

import { SmolVMError } from "../errors/smolvm-error.js";
import type { Database, SqlValue } from "./database.js";
import { vmNotFound } from "./vm-store.js";

/** A host port. */
export interface HostPort {
  readonly hostAddress: string;
  readonly hostPort: number;
}

/** A host port that leads to a guest port. */
export interface PortForward extends HostPort {
  readonly guestPort: number;
}

/** How it came to be: asked for when the VM was made, that of its SSH server, or asked for later. */
export type PortOrigin = "config" | "ssh" | "expose";

/** One forward as recorded. */
export interface PortRow extends PortForward {
  readonly origin: PortOrigin;
}

const ANY_ADDRESS = "0.0.0.0";

export class PortStore {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /**
   * Reserves host ports for a VM: all of them or none.
   *
   * @throws {PORT_IN_USE} when a VM holds one of them, this one included. @throws {VM_NOT_FOUND}
   */
  reserve(vmId: string, ports: readonly PortRow[]): void {
    this.#db.transaction(() => {
      for (const port of ports) {
        this.#requireFree(vmId, port);
        const isVmThere =
          this.#db.run(
            `INSERT INTO ports (vm_id, host_address, host_port, guest_port, origin)
             SELECT id, ?, ?, ?, ? FROM vms WHERE id = ?`,
            port.hostAddress,
            port.hostPort,
            port.guestPort,
            port.origin,
            vmId,
          ) === 1;
        if (!isVmThere) throw vmNotFound(vmId);
      }
    });
  }

  /** A VM's forwards, in the order in which they were reserved. */
  list(vmId: string): PortRow[] {
    return this.#db.all("SELECT * FROM ports WHERE vm_id = ? ORDER BY id", vmId).map(portRow);
  }

  /** The forwards of all VMs. */
  reserved(): PortRow[] {
    return this.#db.all("SELECT * FROM ports ORDER BY id").map(portRow);
  }

  /** Gives up a host port that nobody listens on any more. */
  release(vmId: string, { hostAddress, hostPort }: HostPort): void {
    this.#db.run(
      "DELETE FROM ports WHERE vm_id = ? AND host_address = ? AND host_port = ?",
      vmId,
      hostAddress,
      hostPort,
    );
  }

  /** Who listens on all addresses listens on each. */
  #requireFree(vmId: string, { hostAddress, hostPort }: HostPort): void {
    const holders = this.#db.all("SELECT vm_id, host_address FROM ports WHERE host_port = ?", hostPort);
    const clashes = (other: unknown) => other === hostAddress || other === ANY_ADDRESS || hostAddress === ANY_ADDRESS;
    const holder = holders.find((row) => clashes(row["host_address"]));
    if (holder === undefined) return;
    const whose = holder["vm_id"] === vmId ? "the VM has it already" : "it belongs to another VM";
    throw new SmolVMError("PORT_IN_USE", `Cannot reserve ${hostAddress}:${hostPort} for VM "${vmId}": ${whose}`, {
      details: { vmId, hostAddress, hostPort },
    });
  }
}

function portRow(row: Record<string, SqlValue>): PortRow {
  return {
    hostAddress: String(row["host_address"]),
    hostPort: Number(row["host_port"]),
    guestPort: Number(row["guest_port"]),
    origin: row["origin"] as PortOrigin,
  };
}
