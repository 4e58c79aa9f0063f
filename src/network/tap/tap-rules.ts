// The rules of all VMs of a network namespace in the kernel, and forwarding with them. Every change is made under the
// host's lock, and is one transaction of nft.

import type { Deadline } from "../../base/deadline.js";
import { isSmolVMError } from "../../errors/smolvm-error.js";
import { baseRules, removalOfTables, SETS } from "./base-rules.js";
import { reachableRanges } from "./destinations.js";
import { applySettings, hasDevice, isDeviceReady } from "./device.js";
import type { NftCommand } from "./nft-command.js";
import { elementsOf, INET } from "./rule-words.js";
import { areRulesInForce } from "./rules-in-force.js";
import { runNft } from "./run-nft.js";
import type { TapRegistry } from "./tap-registry.js";
import { decodeSpec } from "./tap-spec.js";
import { isForwardingFrom, isRouter, readRoutes, setForwardingFrom, uplinksTo } from "./uplinks.js";
import { additionOfVm, removalOfVm, replacementOfVm, type TapVm } from "./vm-rules.js";

export class TapRules {
  readonly #registry: TapRegistry;

  constructor(registry: TapRegistry) {
    this.#registry = registry;
  }

  /**
   * Adds a VM whose lease is held. Only additions: those are in force at once.
   *
   * @param isWhole Whether what all VMs share was seen to be in force, a moment ago; else it is written again.
   */
  add(vm: TapVm, isWhole: boolean, deadline: Deadline): Promise<void> {
    return this.#change([vm], deadline, async (guards) => {
      this.#registry.place(vm.index);
      const isAdded = isWhole && (await tryRun([...guards, ...additionOfVm(vm)], deadline));
      if (!isAdded) await this.#rewrite(deadline);
    });
  }

  /** Replaces the rules of a VM whose lease is held, and has been described anew. */
  replace(vm: TapVm, deadline: Deadline): Promise<void> {
    return this.#change([vm], deadline, async (guards) => {
      if (!(await tryRun([...guards, ...replacementOfVm(vm)], deadline))) await this.#rewrite(deadline);
    });
  }

  /** Removes what is left of leases that have ended, and undoes forwarding when no VM is left. */
  removeEnded(deadline: Deadline): Promise<void> {
    return this.#registry.withLock(async () => {
      const ended = this.#registry.ended();
      if (ended.length === 0) return;
      const isLast = this.#registry.held().length === 0;
      if (isLast) this.#stopForwarding();
      const removals = ended.flatMap((lease) => removalOf(decodeSpec(lease)));
      const commands = [...removals, ...(isLast ? [NO_GUARDS] : [])];
      const isRemoved = await tryRun(commands, deadline);
      if (isLast) this.#registry.setUplinks([]);
      if (!isRemoved) await this.#rewrite(deadline);
      this.#registry.forget(ended.map(({ index }) => index));
    }, deadline);
  }

  async areInForce(vm: TapVm, deadline: Deadline): Promise<boolean> {
    if (!isDeviceReady(vm.index) || this.#newUplinks([vm]).length > 0) return false;
    return areRulesInForce(vm, deadline);
  }

  /** Writes everything again that the leases ask for, and nothing else. */
  repair(deadline: Deadline): Promise<void> {
    const vms = this.#vms();
    return this.#change(vms, deadline, async () => {
      await this.#rewrite(deadline);
      for (const { index } of vms) {
        if (hasDevice(index) && !isDeviceReady(index)) applySettings(index);
      }
    });
  }

  /** @returns False when there are leases, which need the tables. */
  removeTables(deadline: Deadline): Promise<boolean> {
    return this.#registry.withLock(async () => {
      if (this.#registry.held().length > 0 || this.#registry.ended().length > 0) return false;
      await runNft(removalOfTables(), deadline);
      return true;
    }, deadline);
  }

  /**
   * A change of rules, with forwarding as these VMs need it: the guard of a device is on record, then in force, and
   * only then the host forwards from it.
   */
  #change(vms: readonly TapVm[], deadline: Deadline, apply: (guards: NftCommand[]) => Promise<void>): Promise<void> {
    return this.#registry.withLock(async () => {
      const isStale = isRouter() && this.#registry.uplinks().length > 0;
      if (isStale) this.#registry.setUplinks([]);
      const uplinks = this.#newUplinks(vms);
      if (uplinks.length > 0) this.#registry.setUplinks([...this.#registry.uplinks(), ...uplinks]);
      // Others route by now, and our guards would be in their way.
      const guards: NftCommand[] = isStale ? [NO_GUARDS] : [];
      if (uplinks.length > 0) guards.push({ add: elementsOf(SETS.guarded, uplinks) });
      await apply(guards);
      for (const device of uplinks) setForwardingFrom(device, true);
    }, deadline);
  }

  /** Devices by which the VMs reach something, and from which the host does not forward yet. */
  #newUplinks(vms: readonly TapVm[]): readonly string[] {
    if (isRouter()) return [];
    const routes = readRoutes();
    const devices = vms.flatMap(({ policy }) => uplinksTo(reachableRanges(policy), routes));
    return [...new Set(devices)].filter((device) => !isForwardingFrom(device));
  }

  /** Undoes what {@link #change} has switched on, unless the host has become a router meanwhile. */
  #stopForwarding(): void {
    if (isRouter()) return;
    for (const device of this.#registry.uplinks()) setForwardingFrom(device, false);
  }

  /** Replaces our tables, with the elements of all VMs. Nobody ever sees the kernel without them. */
  async #rewrite(deadline: Deadline): Promise<void> {
    const ended = this.#registry.ended();
    const rules = [...baseRules(this.#registry.uplinks()), ...this.#vms().flatMap(additionOfVm)];
    await runNft([...removalOfTables(), ...rules], deadline);
    this.#registry.forget(ended.map(({ index }) => index));
  }

  #vms(): readonly TapVm[] {
    const placed = this.#registry.held().filter(({ isPlaced }) => isPlaced);
    return placed.flatMap((lease) => decodeSpec(lease) ?? []);
  }
}

const NO_GUARDS: NftCommand = { flush: { set: { ...INET, name: SETS.guarded } } };

function removalOf(vm: TapVm | undefined): readonly NftCommand[] {
  return vm === undefined ? [] : removalOfVm(vm);
}

/** @returns False when the kernel refuses, mostly because something is missing that was flushed, or there already. */
async function tryRun(commands: readonly NftCommand[], deadline: Deadline): Promise<boolean> {
  if (commands.length === 0) return true;
  try {
    await runNft(commands, deadline);
    return true;
  } catch (error) {
    if (isSmolVMError(error, "NETWORK_FAILED")) return false;
    throw error;
  }
}
