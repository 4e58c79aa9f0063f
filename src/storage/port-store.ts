// Host ports that belong to VMs. A port is reserved from the VM's creation to its deletion.

import { SmolVMError } from "../errors/smolvm-error.js";
import { type Database, isConstraintError } from "./database.js";

/** A host port that leads to a guest port. */
export interface PortForward {
  readonly hostAddress: string;
  readonly hostPort: number;
  readonly guestPort: number;
}

export class PortStore {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /**
   * Reserves host ports for a VM.
   *
   * @throws {PORT_IN_USE} when another VM holds one of them.
   */
  reserve(vmId: string, ports: readonly PortForward[]): void {
    this.#db.transaction(() => {
      for (const { hostAddress, hostPort, guestPort } of ports) {
        try {
          this.#db.run("INSERT INTO ports VALUES (?, ?, ?, ?)", hostAddress, hostPort, vmId, guestPort);
        } catch (error) {
          if (!isConstraintError(error)) throw error;
          throw new SmolVMError(
            "PORT_IN_USE",
            `Cannot reserve ${hostAddress}:${hostPort} for VM "${vmId}": it belongs to another VM`,
            {
              details: { vmId, hostAddress, hostPort },
            },
          );
        }
      }
    });
  }

  /** All reserved host ports, by address. */
  reserved(): PortForward[] {
    return this.#db.all("SELECT * FROM ports").map((row) => ({
      hostAddress: String(row.host_address),
      hostPort: Number(row.host_port),
      guestPort: Number(row.guest_port),
    }));
  }
}
