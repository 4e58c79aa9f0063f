// The host resources that a VM can have, by name.

import type { VmContext } from "./context.js";

/** The VMM process. */
export const VMM_ROLE = "vmm";
/** The process that keeps console and messages of the VMM, bounded. */
export const LOG_KEEPER_ROLE = "logkeeper";
/** The process that carries the guest's network. */
export const NETWORK_ROLE = "network";

/** The process that serves directories of the host to the guest. */
export const MOUNTS_ROLE = "mounts";
/** The process that leads ports of the host to the guest. */
export const PORTS_ROLE = "ports";

/** Programs that a role's process can be, by the name of their file; nothing else is ever signalled for it. */
export const PROGRAMS_BY_ROLE: Readonly<Record<string, RegExp>> = {
  [VMM_ROLE]: /^qemu-system-/,
  [LOG_KEEPER_ROLE]: /^logkeeper/,
  [NETWORK_ROLE]: /^(netguard|passt|tapguard)/,
  [MOUNTS_ROLE]: /^hostfs/,
  [PORTS_ROLE]: /^portd/,
};

/** The TAP device of a VM; which one it is says the lease. */
export const TAP_RESOURCE = { kind: "tap", name: "tap" } as const;

/** The directory of a running VM's sockets. */
export function runtimeDirectory(ctx: VmContext, vmId: string): string | undefined {
  return ctx.store.resources.list(vmId).find(({ kind }) => kind === "runtime")?.name;
}
