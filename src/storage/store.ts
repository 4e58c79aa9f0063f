// All tables of one state directory behind one handle.

import { CaptureStore } from "./capture-store.js";
import { Database } from "./database.js";
import { LaneStore } from "./lane-store.js";
import { PortStore } from "./port-store.js";
import { ResourceStore } from "./resource-store.js";
import { RetainedDiskStore } from "./retained-disk-store.js";
import { VerdictStore } from "./verdict-store.js";
import { VmStore } from "./vm-store.js";

export class Store {
  readonly #db: Database;
  readonly vms: VmStore;
  readonly resources: ResourceStore;
  readonly lanes: LaneStore;
  readonly ports: PortStore;
  readonly retainedDisks: RetainedDiskStore;
  readonly verdicts: VerdictStore;
  readonly captures: CaptureStore;

  /** @throws {STORAGE_FAILED} */
  constructor(stateDir: string) {
    this.#db = Database.open(stateDir);
    this.vms = new VmStore(this.#db);
    this.resources = new ResourceStore(this.#db);
    this.lanes = new LaneStore(this.#db);
    this.ports = new PortStore(this.#db);
    this.retainedDisks = new RetainedDiskStore(this.#db);
    this.verdicts = new VerdictStore(this.#db);
    this.captures = new CaptureStore(this.#db);
  }

  /** Several changes as one: all or none, with nobody writing in between. */
  transaction<T>(body: () => T): T {
    return this.#db.transaction(body);
  }

  close(): void {
    this.#db.close();
  }
}
