// What TAP networks need of whoever keeps the leases. They are the host's, not a state directory's: all VMs of a network
// namespace share the pool, the rules and this record. The room that stores them offers it.

import type { Deadline } from "../../base/deadline.js";

/** Whose a lease is. */
export interface TapOwner {
  readonly stateDir: string;
  readonly vmId: string;
}

/** One address of the pool, and what was recorded with it. */
export interface TapLease {
  readonly index: number;
  readonly owner: TapOwner;
  /** What it was leased with; see tap-spec.ts. */
  readonly spec: string;
  /** Whether the rules have it, or are about to get it. */
  readonly isPlaced: boolean;
}

/** What is asked for. */
export interface TapLeaseRequest {
  readonly spec: string;
  /** Taken where it is free. */
  readonly preferredIndex?: number | undefined;
  /** False for an index that cannot be used now: it is put aside for a while. Called inside a transaction. */
  readonly isUsable: (index: number) => boolean;
}

/** The leases of this network namespace, and beside them the devices on which the host forwards for them. */
export interface TapRegistry {
  /** An owner who has a lease gets the same one again. @throws {NETWORK_FAILED} when the pool is used up. */
  lease(owner: TapOwner, request: TapLeaseRequest): number;
  leaseOf(owner: TapOwner): TapLease | undefined;
  /** Replaces what is recorded with a lease that is held. */
  describe(lease: Pick<TapLease, "index" | "owner" | "spec">): void;
  /** From now on whoever writes the rules anew writes this lease's, too. */
  place(index: number): void;
  /** Ends a lease. The address rests, and {@link ended} lists it until {@link forget}. */
  release(lease: Pick<TapLease, "index" | "owner">): void;
  held(): TapLease[];
  /** Leases that have ended, and whose rules may still be there. */
  ended(): TapLease[];
  /** The rules of ended leases are gone. */
  forget(indexes: readonly number[]): void;
  /** Devices of others on which forwarding was switched on. */
  uplinks(): string[];
  setUplinks(devices: readonly string[]): void;
  /** One at a time among all processes of the host. @throws {BUSY} {ABORTED} */
  withLock<T>(body: () => Promise<T>, deadline: Deadline): Promise<T>;
}
