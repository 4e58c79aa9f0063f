// Ports that are on record and could not be listened on, and what `info().warnings` says of them.

import { isSmolVMError, type SmolVMError } from "../../errors/smolvm-error.js";
import type { HostPort, PortRow } from "../../storage/port-store.js";
import type { VmContext } from "../context.js";

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
  change(ctx, vmId, (warnings) => [
    ...warnings.filter((warning) => !warning.startsWith(WARNING)),
    ...unserved.map(({ port, error }) => `${lineStart(port)}${reasonOf(error)}`),
  ]);
}

/** Forgets what is on record of a port that is no longer the VM's. */
export function forgetUnserved(ctx: VmContext, vmId: string, port: HostPort): void {
  change(ctx, vmId, (warnings) => warnings.filter((warning) => !warning.startsWith(lineStart(port))));
}

/** Whether one of these ports was not served when somebody last tried. */
export function isAnyUnserved(ctx: VmContext, vmId: string, ports: readonly HostPort[]): boolean {
  const warnings = ctx.store.vms.find(vmId)?.warnings ?? [];
  return ports.some((port) => warnings.some((warning) => warning.startsWith(lineStart(port))));
}

function lineStart({ hostAddress, hostPort }: HostPort): string {
  return `${WARNING}${hostAddress}:${hostPort}: `;
}

function reasonOf(error: SmolVMError): string {
  return error.code === "PORT_IN_USE" ? "something listens on it" : String(error.details["reason"]);
}

function change(ctx: VmContext, vmId: string, to: (warnings: readonly string[]) => readonly string[]): void {
  const before = ctx.store.vms.find(vmId)?.warnings ?? [];
  const after = to(before);
  if (after.join("\n") !== before.join("\n")) ctx.store.vms.setWarnings(vmId, after);
}
