// This program's connections to its guests: one per VM, opened when first needed, over a lane leased for it.

import type { Duplex } from "node:stream";
import { backendFor } from "../backends/registry.js";
import type { Deadline } from "../base/deadline.js";
import { pollUntil } from "../base/sleep.js";
import { within } from "../base/within.js";
import { SmolVMError } from "../errors/smolvm-error.js";
import { waitError } from "../errors/wait-errors.js";
import { GuestConnection } from "../guest/connection.js";
import { isAlive, selfIdentity } from "../host/process-identity.js";
import type { LaneLease } from "../storage/lane-store.js";
import type { Store } from "../storage/store.js";

/** Bound of one handshake on a fresh lane of a running VM, in milliseconds. */
const HANDSHAKE_TIMEOUT_MS = 10_000;

/** Where a guest can be reached. */
export interface GuestAddress {
  readonly vmId: string;
  readonly backend: string;
  readonly runtimeDir: string;
}

interface OpenChannel {
  readonly connection: Promise<GuestConnection>;
  /** The connection once it is there. */
  ready?: GuestConnection;
}

export class GuestChannels {
  readonly #store: Store;
  readonly #channels = new Map<string, OpenChannel>();

  constructor(store: Store) {
    this.#store = store;
  }

  /** The connection to a guest, if there is one and it is open. */
  find(vmId: string): GuestConnection | undefined {
    const ready = this.#channels.get(vmId)?.ready;
    return ready?.isOpen ? ready : undefined;
  }

  /**
   * The connection to a guest, opened if need be.
   *
   * @throws {BUSY} when other processes held all lanes until the deadline.
   * @throws {TIMEOUT} when the guest did not answer. @throws {CHANNEL_CLOSED} @throws {ABORTED}
   */
  async get(address: GuestAddress, deadline: Deadline): Promise<GuestConnection> {
    for (;;) {
      const open = this.find(address.vmId);
      if (open !== undefined) return open;
      const known = this.#channels.get(address.vmId);
      if (known === undefined) return this.#keep(address.vmId, this.#connect(address, deadline));
      // Another caller's connect has that caller's bounds; this one keeps to its own.
      const connection = await within(
        known.connection.catch(() => undefined),
        deadline,
        (): never => {
          throw waitError(`Connection to VM "${address.vmId}"`, deadline);
        },
      );
      if (connection?.isOpen) return connection;
      this.#forget(address.vmId, known);
    }
  }

  /**
   * Opens a connection over a lane that only this program has, and keeps it for {@link get}.
   *
   * @throws {TIMEOUT} when the guest did not answer. @throws {CHANNEL_CLOSED} @throws {ABORTED}
   */
  adopt(vmId: string, lane: Duplex, deadline: Deadline): Promise<GuestConnection> {
    return this.#keep(vmId, GuestConnection.open(lane, deadline));
  }

  /** Keeps a connection that is being opened for {@link get}. */
  #keep(vmId: string, connection: Promise<GuestConnection>): Promise<GuestConnection> {
    const channel: OpenChannel = { connection };
    this.#channels.set(vmId, channel);
    const forget = () => this.#forget(vmId, channel);
    void channel.connection.then((connection) => {
      channel.ready = connection;
      void connection.closed.then(forget);
    }, forget);
    return channel.connection;
  }

  /** Closes the connection to a guest that is about to end. */
  drop(vmId: string): void {
    const channel = this.#channels.get(vmId);
    this.#channels.delete(vmId);
    void channel?.connection.then(
      (connection) => connection.close(),
      () => {},
    );
  }

  /** Closes all connections. */
  close(): void {
    for (const vmId of this.#channels.keys()) this.drop(vmId);
  }

  #forget(vmId: string, channel: OpenChannel): void {
    if (this.#channels.get(vmId) === channel) this.#channels.delete(vmId);
  }

  async #connect(address: GuestAddress, deadline: Deadline): Promise<GuestConnection> {
    const backend = backendFor(address.backend);
    const lease = await this.#lease(address.vmId, backend.features.laneCount, deadline);
    try {
      const bound = deadline.atMost(HANDSHAKE_TIMEOUT_MS);
      const socket = await backend.dial(address.runtimeDir, lease.lane, bound);
      const connection = await GuestConnection.open(socket, bound);
      void connection.closed.then(() => this.#release(address.vmId, lease));
      return connection;
    } catch (error) {
      this.#release(address.vmId, lease);
      throw error;
    }
  }

  async #lease(vmId: string, laneCount: number, deadline: Deadline): Promise<LaneLease> {
    const holder = await selfIdentity();
    const lane = await pollUntil(async () => {
      const leases = this.#store.lanes.list(vmId);
      const living = await Promise.all(leases.map((lease) => isAlive(lease.holder)));
      return this.#store.lanes.lease(vmId, { laneCount, holder, dead: leases.filter((_, index) => !living[index]) });
    }, deadline);
    if (lane !== undefined) return { lane, holder };
    if (deadline.isAborted) throw waitError(`Connection to VM "${vmId}"`, deadline);
    throw new SmolVMError("BUSY", `Cannot connect to VM "${vmId}": other processes hold all ${laneCount} lanes`, {
      details: { vmId, laneCount },
    });
  }

  #release(vmId: string, lease: LaneLease): void {
    try {
      this.#store.lanes.release(vmId, lease);
    } catch {
      // The state directory was closed or is gone; a lease dies with its process anyway.
    }
  }
}
