// The part of the initramfs that belongs to a kernel: its modules, laid out as the agent expects them.

import { type CpioEntry, cpioArchive } from "./cpio.js";
import type { KernelModule } from "./kernel-modules.js";

/**
 * @param bootModules Loaded by the agent at boot, in this order (`/smolvm/modules`).
 * @param spareModules Present only (`/smolvm/modules.d`).
 */
export function modulesArchive(bootModules: readonly KernelModule[], spareModules: readonly KernelModule[]): Buffer {
  const order = bootModules.map(({ name }) => `${name}\n`).join("");
  const all = new Map([...bootModules, ...spareModules].map((module) => [module.name, module]));
  const files = [...all.values()].map(
    ({ name, data }): CpioEntry => ({ type: "file", name: `smolvm/modules.d/${name}.ko`, data }),
  );
  return cpioArchive([
    { type: "directory", name: "smolvm" },
    { type: "file", name: "smolvm/modules", data: Buffer.from(order) },
    { type: "directory", name: "smolvm/modules.d" },
    ...files,
  ]);
}
