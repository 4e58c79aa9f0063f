// Host ports that belong to VMs. A port is reserved from the VM's creation to its deletion.

import { SmolVMError } from "../errors/smolvm-error.js";
import type { Database } from "./database.js";

/** A host port that leads to a guest port. */
export interface PortForward {
  readonly hostAddress: string;
  readonly hostPort: number;
  readonly guestPort: number;
}

const ANY_ADDRESS = "0.0.0.0";

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
        if (this.#isReserved(hostAddress, hostPort)) {
          const text = `Cannot reserve ${hostAddress}:${hostPort} for VM "${vmId}": it belongs to another VM`;
          throw new SmolVMError("PORT_IN_USE", text, { details: { vmId, hostAddress, hostPort } });
        }
        this.#db.run("INSERT INTO ports VALUES (?, ?, ?, ?)", hostAddress, hostPort, vmId, guestPort);
      }
    });
  }

  /** Who listens on all addresses listens on each. */
  #isReserved(hostAddress: string, hostPort: number): boolean {
    const holders = this.#db.all("SELECT host_address FROM ports WHERE host_port = ?", hostPort);
    const clashes = (other: unknown) => other === hostAddress || other === ANY_ADDRESS || hostAddress === ANY_ADDRESS;
    return holders.some((row) => clashes(row["host_address"]));
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
