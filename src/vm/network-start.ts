// What the start of a network takes and gives, whatever its mode.

import type { MachineLink } from "../backends/backend.js";
import type { Deadline } from "../base/deadline.js";
import type { GuestInterface } from "../guest/configure.js";
import type { ProcessIdentity } from "../host/process-identity.js";
import type { VmSpec } from "./vm-spec.js";

/** Both ends of a VM's network. */
export interface StartedNetwork {
  readonly device: { readonly link: MachineLink; readonly macAddress: string };
  readonly guest: GuestInterface;
  /** What the guest will miss. */
  readonly warnings: readonly string[];
  /** To be called once the VMM was started, or was not. Resolves when all processes are on record. Does not reject. */
  handOver(): Promise<unknown>;
  /**
   * To be called with the VMM's identity as soon as it is on record, and before `handOver`. A TAP network is closed until
   * then.
   */
  follow(vmm: ProcessIdentity): void;
  /**
   * Resolves when frames are carried; a VM counts as running only then. Rejects with HOST_UNSUPPORTED, NETWORK_FAILED,
   * TIMEOUT or ABORTED; the guest has no network then. A rejection that nobody waits for is not reported.
   */
  readonly ready: Promise<void>;
}

/** What it is started for. */
export interface NetworkStart {
  readonly vmId: string;
  readonly spec: VmSpec;
  readonly runtimeDir: string;
  /** Also bounds `ready`. */
  readonly deadline: Deadline;
}
