// Ports that are on record and could not be listened on, and what `info().warnings` says of them.

import { isSmolVMError, type SmolVMError } from "../../errors/smolvm-error.js";
import type { HostPort, PortRow } from "../../storage/port-store.js";
import type { VmContext } from "../context.js";
import { replaceWarnings } from "../vm-warnings.js";

/** One of them, and why. */
export interface UnservedPort {
  readonly port: PortRow;
  readonly error: SmolVMError;
}

/** Begins each line. One port has one line. */
const WARNING = "Some ports are not served: ";

/** Whether it is this one port that cannot be listened on, as when somebody else got it; not the process that serves all. */
export function isUnlistenable(error: unknown): error is SmolVMError {
  if (isSmolVMError(error, "PORT_IN_USE")) return true;
  return isSmolVMError(error, "NETWORK_FAILED") && error.details["hostPort"] !== undefined;
}

/** Puts on record which of a VM's ports are not served now: all that it says is replaced. */
export function recordUnserved(ctx: VmContext, vmId: string, unserved: readonly UnservedPort[]): void {
  const lines = unserved.map(({ port, error }) => `${nameOf(port)}${reasonOf(error)}`);
  replaceWarnings(ctx, vmId, WARNING, lines);
}

/** Forgets what is on record of a port that is no longer the VM's. */
export function forgetUnserved(ctx: VmContext, vmId: string, port: HostPort): void {
  replaceWarnings(ctx, vmId, `${WARNING}${nameOf(port)}`, []);
}

/** Whether one of these ports was not served when somebody last tried. */
export function isAnyUnserved(ctx: VmContext, vmId: string, ports: readonly HostPort[]): boolean {
  const warnings = ctx.store.vms.find(vmId)?.warnings ?? [];
  return ports.some((port) => warnings.some((warning) => warning.startsWith(`${WARNING}${nameOf(port)}`)));
}

function nameOf({ hostAddress, hostPort }: HostPort): string {
  return `${hostAddress}:${hostPort}: `;
}

function reasonOf(error: SmolVMError): string {
  return error.code === "PORT_IN_USE" ? "something listens on it" : String(error.details["reason"]);
}
