// TAP networks from set-up to removal: lease, device, rules, in this order, and back. Everything is on record before it
// exists. What the rules are is in base-rules.ts and vm-rules.ts.

import { Deadline } from "../../base/deadline.js";
import { SmolVMError } from "../../errors/smolvm-error.js";
import { addressesOf, rangeOf, type TapAddresses } from "./addresses.js";
import { bringDown, bringUp, hasDevice, makeDevice, removeDevice } from "./device.js";
import { isDeviceInUse } from "./device-users.js";
import { doRangesOverlap } from "./ipv4-ranges.js";
import { limitRate } from "./rate-limit.js";
import { isBaseInForce } from "./rules-in-force.js";
import { takenRanges } from "./taken-ranges.js";
import type { TapLease, TapOwner, TapRegistry } from "./tap-registry.js";
import { TapRules } from "./tap-rules.js";
import { decodeSpec, encodeSpec } from "./tap-spec.js";
import { readRoutes } from "./uplinks.js";
import type { TapVm } from "./vm-rules.js";

/** How many devices of others a set-up goes round. */
const ATTEMPTS = 8;
/** Bound of the removal of rules, which nobody waits for, and of a device after a failure, in milliseconds. */
const CLEANUP_MS = 30_000;

/** What a VM's network is made from. */
export interface TapRequest extends Omit<TapVm, "index"> {
  readonly owner: TapOwner;
  /** Whoever runs the VMM. */
  readonly ownerUid: number;
  /** Taken where it is free; default: the one that the VM had last, else any. */
  readonly preferredIndex?: number | undefined;
  /** The host's own networks as CIDR: no guest gets an address in one of them. */
  readonly hostNetworks: readonly string[];
}

/** A network whose device is there, and is down. */
export interface ClosedTapNetwork {
  readonly addresses: TapAddresses;
  /**
   * Puts the rules in force. To be called once, or not at all before {@link TapNetworks.tearDown}.
   *
   * @throws {NETWORK_FAILED} {HOST_UNSUPPORTED} {BUSY} {TIMEOUT} {ABORTED} Nothing is left then.
   */
  enforce(): Promise<void>;
  /** Brings the device up, after {@link enforce}. @throws {NETWORK_FAILED} {TIMEOUT} {ABORTED} Nothing is left then. */
  open(): Promise<void>;
}

/** A VM with a lease that is held. */
type HeldVm = TapVm & Pick<TapRequest, "owner" | "ownerUid">;

export class TapNetworks {
  readonly #registry: TapRegistry;
  readonly #rules: TapRules;
  #sweeping: Promise<void> | undefined;
  #isSweepWanted = false;

  constructor(registry: TapRegistry) {
    this.#registry = registry;
    this.#rules = new TapRules(registry);
  }

  /**
   * Makes the network of a VM: the device is up and its rules are in force. What the VM has from before is removed first.
   *
   * @throws {NETWORK_FAILED} when the pool is used up, or the kernel refuses something; nothing is left then.
   * @throws {HOST_UNSUPPORTED} when a program is missing. @throws {BUSY} {TIMEOUT} {ABORTED}
   */
  async setUp(request: TapRequest, deadline: Deadline): Promise<TapAddresses> {
    const { addresses, enforce, open } = await this.begin(request, deadline);
    await enforce();
    await open();
    return addresses;
  }

  /**
   * The first half of {@link setUp}: the device is there, with its address, and is down, so that nothing passes yet.
   *
   * @throws {NETWORK_FAILED} {HOST_UNSUPPORTED} {BUSY} {TIMEOUT} {ABORTED} as setUp does
   */
  async begin(request: TapRequest, deadline: Deadline): Promise<ClosedTapNetwork> {
    const { owner } = request;
    await this.tearDown(owner, deadline);
    const taken = takenRanges(request.hostNetworks, readRoutes());
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const index = this.#registry.lease(owner, {
        spec: encodeSpec(request),
        preferredIndex: request.preferredIndex,
        isUsable: (candidate) => !hasDevice(candidate) && !doRangesOverlap([rangeOf(candidate)], taken),
      });
      const vm = { ...request, index };
      const making = this.#make(vm, deadline);
      const isWhole = isBaseInForce(deadline); // By a processor that has nothing to do yet: the VMM waits for the device.
      isWhole.catch(() => {}); // It is waited for later, or not at all.
      if (await making) {
        const orUndo = (step: () => Promise<void>) => this.#orUndo(vm, step);
        return {
          addresses: addressesOf(index),
          enforce: () => orUndo(async () => this.#enforce(vm, await isWhole, deadline)),
          open: () => orUndo(() => bringUp(index, deadline)),
        };
      }
    }
    throw new SmolVMError("NETWORK_FAILED", `Cannot make a TAP device: others have taken the names of ${ATTEMPTS}`, {
      details: { attempts: ATTEMPTS },
    });
  }

  /**
   * Puts another policy in force, in one transaction. Packets of connections that it refuses are refused from now on.
   *
   * @throws {NETWORK_FAILED} when the VM has no TAP network, or the kernel refuses; the old policy holds then.
   * @throws {BUSY} {TIMEOUT} {ABORTED}
   */
  async update(owner: TapOwner, policy: TapVm["policy"], deadline: Deadline): Promise<void> {
    const lease = this.#registry.leaseOf(owner);
    const vm = lease && decodeSpec(lease);
    if (lease === undefined || vm === undefined) {
      throw new SmolVMError("NETWORK_FAILED", `Cannot change the network of VM "${owner.vmId}": it has no TAP device`);
    }
    this.#registry.describe({ ...lease, spec: encodeSpec({ ...vm, policy }) });
    try {
      await this.#rules.replace({ ...vm, policy }, deadline);
    } catch (error) {
      this.#registry.describe(lease);
      throw error;
    }
  }

  /**
   * Removes the network of a VM, and is done when the device is gone. The rules go right afterwards: without the device
   * they mean nothing, and the kernel takes its time (see {@link settled}). A VM without a TAP network needs nothing.
   *
   * @throws {NETWORK_FAILED} {TIMEOUT} {ABORTED}
   */
  async tearDown(owner: TapOwner, deadline: Deadline): Promise<void> {
    const lease = this.#registry.leaseOf(owner);
    if (lease === undefined) return;
    await removeDevice(lease.index, deadline);
    this.#end(lease);
  }

  /**
   * Takes a VM's device down: nothing passes, whatever the rules are, until {@link open}. A VM without one needs nothing.
   *
   * @throws {NETWORK_FAILED} {TIMEOUT} {ABORTED}
   */
  async close(owner: TapOwner, deadline: Deadline): Promise<void> {
    const lease = this.#registry.leaseOf(owner);
    if (lease !== undefined && hasDevice(lease.index)) await bringDown(lease.index, deadline);
  }

  /** Lets packets pass again. @throws {NETWORK_FAILED} {TIMEOUT} {ABORTED} */
  async open(owner: TapOwner, deadline: Deadline): Promise<void> {
    const lease = this.#registry.leaseOf(owner);
    if (lease !== undefined) await bringUp(lease.index, deadline);
  }

  /** The addresses of a VM that has a TAP network. */
  addressesOf(owner: TapOwner): TapAddresses | undefined {
    const lease = this.#registry.leaseOf(owner);
    return lease && addressesOf(lease.index);
  }

  /**
   * True when the VM has its device, the settings of it, and its rules.
   *
   * @throws {TIMEOUT} {ABORTED}
   */
  async isInForce(owner: TapOwner, deadline: Deadline): Promise<boolean> {
    const lease = this.#registry.leaseOf(owner);
    const vm = lease && decodeSpec(lease);
    return vm !== undefined && (await this.#rules.areInForce(vm, deadline));
  }

  /**
   * Writes all rules and settings of this network namespace again, of all VMs whoever's they are. It removes what is
   * there of ours and belongs to nobody. A device that has gone is not made again.
   *
   * @throws {NETWORK_FAILED} {BUSY} {TIMEOUT} {ABORTED}
   */
  repair(deadline: Deadline): Promise<void> {
    return this.#rules.repair(deadline);
  }

  /**
   * Removes the networks of leases whose owners are gone, unless a VMM still uses the device.
   *
   * @returns Those that were removed.
   * @throws {NETWORK_FAILED} {TIMEOUT} {ABORTED}
   */
  async reclaim(abandoned: readonly TapLease[], deadline: Deadline): Promise<readonly TapLease[]> {
    const unused = abandoned.filter(({ index }) => !isDeviceInUse(addressesOf(index).device));
    for (const { owner } of unused) await this.tearDown(owner, deadline);
    return unused;
  }

  /** Resolves when nothing of the networks that this program has removed is left. Never rejects. */
  async settled(): Promise<void> {
    while (this.#sweeping !== undefined) await this.#sweeping;
  }

  /**
   * Removes our tables where no VM needs them. They do nothing without VMs, so that nobody has to.
   *
   * @returns False when there are VMs.
   * @throws {NETWORK_FAILED} {BUSY} {TIMEOUT} {ABORTED}
   */
  async removeTables(deadline: Deadline): Promise<boolean> {
    await this.settled();
    return this.#rules.removeTables(deadline);
  }

  /** @returns False when others have a device of this name. The lease has ended then, as after a failure. */
  async #make(vm: HeldVm, deadline: Deadline): Promise<boolean> {
    try {
      if (await makeDevice(vm, deadline)) return true;
    } catch (error) {
      this.#end(vm);
      throw error;
    }
    this.#end(vm);
    return false;
  }

  async #enforce(vm: HeldVm, isWhole: boolean, deadline: Deadline): Promise<void> {
    await this.#rules.add(vm, isWhole, deadline);
    if (vm.rateLimitMbps !== undefined) await limitRate(vm.index, vm.rateLimitMbps, deadline);
  }

  /** Removes the network when a step fails. */
  async #orUndo(vm: HeldVm, step: () => Promise<void>): Promise<void> {
    try {
      await step();
    } catch (error) {
      await removeDevice(vm.index, Deadline.after(CLEANUP_MS)).catch(() => {});
      this.#end(vm);
      throw error;
    }
  }

  /** Ends a lease; its rules go without anybody waiting. */
  #end(lease: Pick<TapLease, "index" | "owner">): void {
    this.#registry.release(lease);
    this.#isSweepWanted = true;
    this.#sweeping ??= this.#sweep().finally(() => {
      this.#sweeping = undefined;
    });
  }

  async #sweep(): Promise<void> {
    while (this.#isSweepWanted) {
      this.#isSweepWanted = false;
      try {
        await this.#rules.removeEnded(Deadline.after(CLEANUP_MS));
      } catch {
        // The leases stay on record as ended, and the next sweep, of whatever process, tries again.
      }
    }
  }
}
