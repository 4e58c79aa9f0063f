// The guest's memory on QEMU's command line, and where a frozen machine's device state comes from.

import type { MachineMemory } from "../backend.js";

/** Descriptor of the child that is the starter's own lane. */
export const OWN_LANE_FD = 3;
/** Descriptor of the child that its network's socket listens on. */
export const NETWORK_FD = 5;
/** Descriptor of the child that a frozen machine's device state is read from. */
export const DEVICES_FD = 4;

/** What comes after the other options of `-machine`. */
export function memoryOfMachine(memory: MachineMemory): string {
  if (memory.from === "boot") return "";
  // The state was saved without a description of itself behind it; QEMU would miss it.
  return memory.from === "recording" ? ",memory-backend=ram" : ",memory-backend=ram,suppress-vmdesc=on";
}

/** Options for the memory. A machine that boots and is not recorded has memory of QEMU's own. */
export function memoryOptions(memory: MachineMemory, memSizeMib: number): string[] {
  if (memory.from === "boot") return [];
  const backend = {
    "qom-type": "memory-backend-file",
    id: "ram",
    size: memSizeMib * 2 ** 20,
    "mem-path": memory.path,
    // Not shared is copy-on-write: what this machine changes is its own.
    share: memory.from === "recording",
  };
  const options = ["-object", JSON.stringify(backend)];
  if (memory.from === "recording") return options;
  return [
    ...options,
    // `xen-save-devices-state` writes no configuration section, which `-incoming` expects by default
    // (migration/savevm.c, qemu_save_device_state).
    ...["-global", "migration.send-configuration=off"],
    // Nobody has to learn where this machine went: it is a new one, and would announce an address that is not its own.
    ...["-global", "migration.announce-rounds=0"],
    ...["-incoming", `fd:${DEVICES_FD}`],
  ];
}
