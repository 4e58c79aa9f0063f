// This program's connections to its guests, opened when first needed: one per VM over a lane leased for it, and where the
// VM has the SSH channel one over that, which all but the VM's own making and ending goes through.

import type { Duplex } from "node:stream";
import { backendFor } from "../backends/registry.js";
import type { Deadline } from "../base/deadline.js";
import { within } from "../base/within.js";
import { waitError } from "../errors/wait-errors.js";
import { GuestConnection } from "../guest/connection.js";
import type { LaneLease } from "../storage/lane-store.js";
import type { Store } from "../storage/store.js";
import { leaseLane } from "./lease-lane.js";

/** Bound of one handshake on a fresh lane of a running VM, in milliseconds. */
const HANDSHAKE_TIMEOUT_MS = 10_000;
/** The same over SSH, whose own handshake takes an emulated guest a second or more. */
const SSH_HANDSHAKE_TIMEOUT_MS = 30_000;

/** Where a guest can be reached. */
export interface GuestAddress {
  readonly vmId: string;
  readonly backend: string;
  readonly runtimeDir: string;
  /** Connects over SSH; without it a lane is taken. */
  readonly dialSsh?: ((deadline: Deadline) => Promise<Duplex>) | undefined;
}

/** What a connection runs over. */
export type GuestWay = "lane" | "ssh";

interface OpenChannel {
  readonly connection: Promise<GuestConnection>;
  /** The connection once it is there. */
  ready?: GuestConnection;
}

interface ChannelPlace {
  readonly vmId: string;
  readonly way: GuestWay;
}

export class GuestChannels {
  readonly #store: Store;
  readonly #channels: Readonly<Record<GuestWay, Map<string, OpenChannel>>> = { lane: new Map(), ssh: new Map() };

  constructor(store: Store) {
    this.#store = store;
  }

  /** The connection to a guest, if there is one and it is open. */
  find(vmId: string, way: GuestWay): GuestConnection | undefined {
    const ready = this.#channels[way].get(vmId)?.ready;
    return ready?.isOpen ? ready : undefined;
  }

  /**
   * The connection to a guest, opened if need be.
   *
   * @throws {BUSY} when other processes held all lanes until the deadline.
   * @throws {SSH_FAILED} when it cannot be reached over SSH.
   * @throws {TIMEOUT} when the guest did not answer. @throws {CHANNEL_CLOSED} @throws {ABORTED}
   */
  async get(address: GuestAddress, deadline: Deadline): Promise<GuestConnection> {
    const { vmId } = address;
    const way = address.dialSsh === undefined ? "lane" : "ssh";
    for (;;) {
      const open = this.find(vmId, way);
      if (open !== undefined) return open;
      const known = this.#channels[way].get(vmId);
      if (known === undefined) return this.#keep({ vmId, way }, this.#connect(address, deadline));
      // Another caller's connect has that caller's bounds; this one keeps to its own.
      const connection = await within(
        known.connection.catch(() => undefined),
        deadline,
        (): never => {
          throw waitError(`Connection to VM "${vmId}"`, deadline);
        },
      );
      if (connection?.isOpen) return connection;
      this.#forget({ vmId, way }, known);
    }
  }

  /**
   * Opens a connection over a lane that only this program has, and keeps it for {@link get}.
   *
   * @throws {TIMEOUT} when the guest did not answer. @throws {CHANNEL_CLOSED} @throws {ABORTED}
   */
  adopt(vmId: string, lane: Duplex, deadline: Deadline): Promise<GuestConnection> {
    return this.#keep({ vmId, way: "lane" }, GuestConnection.open(lane, deadline));
  }

  /** Keeps a connection that is being opened for {@link get}. */
  #keep(place: ChannelPlace, connection: Promise<GuestConnection>): Promise<GuestConnection> {
    const channel: OpenChannel = { connection };
    this.#channels[place.way].set(place.vmId, channel);
    const forget = () => this.#forget(place, channel);
    void channel.connection.then((connection) => {
      channel.ready = connection;
      void connection.closed.then(forget);
    }, forget);
    return channel.connection;
  }

  /** Closes the connections to a guest that is about to end. */
  drop(vmId: string): void {
    for (const channels of Object.values(this.#channels)) {
      const channel = channels.get(vmId);
      channels.delete(vmId);
      void channel?.connection.then(
        (connection) => connection.close(),
        () => {},
      );
    }
  }

  /** Closes all connections. */
  close(): void {
    for (const channels of Object.values(this.#channels)) for (const vmId of channels.keys()) this.drop(vmId);
  }

  #forget({ vmId, way }: ChannelPlace, channel: OpenChannel): void {
    if (this.#channels[way].get(vmId) === channel) this.#channels[way].delete(vmId);
  }

  async #connect(address: GuestAddress, deadline: Deadline): Promise<GuestConnection> {
    if (address.dialSsh !== undefined) {
      const bound = deadline.atMost(SSH_HANDSHAKE_TIMEOUT_MS);
      return GuestConnection.open(await address.dialSsh(bound), bound);
    }
    const backend = backendFor(address.backend);
    const lane = { vmId: address.vmId, laneCount: backend.features.laneCount };
    const lease = await leaseLane(this.#store, lane, deadline);
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

  #release(vmId: string, lease: LaneLease): void {
    try {
      this.#store.lanes.release(vmId, lease);
    } catch {
      // The state directory was closed or is gone; a lease dies with its process anyway.
    }
  }
}
