// Sees to it that what is on record of a running VM's ports is served: by the process that runs, or by a new one when
// that was found dead.

import type { Deadline } from "../../base/deadline.js";
import { SmolVMError } from "../../errors/smolvm-error.js";
import type { HostPort } from "../../storage/port-store.js";
import type { VmRow } from "../../storage/vm-store.js";
import { changeVm } from "../claim.js";
import type { VmContext } from "../context.js";
import { isLive } from "../lifecycle.js";
import { liveProcess } from "../live-process.js";
import { PORTS_ROLE, runtimeDirectory } from "../resources.js";
import { decodeSpec } from "../vm-spec.js";
import { HeldPorts } from "./held-ports.js";
import { PortControl } from "./port-control.js";
import { portControlPath, startPorts } from "./start-ports.js";

/**
 * Makes a running VM's ports work again if the process that serves them was killed. It costs a look at that process.
 *
 * @throws {PORT_IN_USE} when somebody else got one meanwhile. @throws {NETWORK_FAILED} {HOST_UNSUPPORTED}
 * @throws {VM_NOT_FOUND} {BUSY} {TIMEOUT} {ABORTED} {STORAGE_FAILED}
 */
export async function ensurePorts(ctx: VmContext, vmId: string, deadline: Deadline): Promise<void> {
  if (await areServed(ctx, vmId)) return;
  await changeVm(ctx, { vmId, verb: "network" }, deadline, {
    work: async (row) => {
      // A VM that was paused or stopped meanwhile has them again when it goes on. A paused guest answers nobody.
      const isWanted = row.status === "running" && !(await areServed(ctx, vmId));
      if (isWanted) await openPorts(ctx, row, deadline);
      return { end: { status: row.status, failure: row.failure }, value: undefined };
    },
  });
}

async function areServed(ctx: VmContext, vmId: string): Promise<boolean> {
  if (ctx.store.ports.list(vmId).length === 0) return true;
  return (await liveProcess(ctx, vmId, PORTS_ROLE)) !== undefined;
}

/**
 * The way to order changes of a VM's ports: a process that serves exactly what is on record, started if need be. The
 * caller holds the claim of a running VM.
 *
 * @throws what {@link ensurePorts} throws.
 */
export async function openPorts(ctx: VmContext, row: VmRow, deadline: Deadline): Promise<PortControl> {
  const control = await livePorts(ctx, row, deadline);
  if (control !== undefined) return control;
  const runtimeDir = runtimeDirectory(ctx, row.id);
  if (runtimeDir === undefined) {
    throw new SmolVMError("INTERNAL", `VM "${row.id}" runs without a runtime directory`, { details: { vmId: row.id } });
  }
  const spec = decodeSpec(row.id, row.spec);
  await startPorts(ctx, { vmId: row.id, spec, runtimeDir, deadline }, new HeldPorts());
  return new PortControl(row.id, portControlPath(runtimeDir));
}

/**
 * The same for a process that runs; nothing is started.
 *
 * @returns `undefined` when there is none.
 */
export async function livePorts(ctx: VmContext, row: VmRow, deadline: Deadline): Promise<PortControl | undefined> {
  const runtimeDir = runtimeDirectory(ctx, row.id);
  if (!isLive(row.status) || runtimeDir === undefined) return undefined;
  if ((await liveProcess(ctx, row.id, PORTS_ROLE)) === undefined) return undefined;
  const control = new PortControl(row.id, portControlPath(runtimeDir));
  await agree(ctx, row.id, control, deadline);
  return control;
}

/**
 * Makes what it listens on what is on record. Whoever died between ordering and recording has left a difference; nobody
 * else is in between now.
 */
async function agree(ctx: VmContext, vmId: string, control: PortControl, deadline: Deadline): Promise<void> {
  const recorded = ctx.store.ports.list(vmId);
  const served = await control.list(deadline);
  for (const port of served)
    if (!recorded.some((other) => isSamePort(port, other))) await control.close(port, deadline);
  for (const port of recorded)
    if (!served.some((other) => isSamePort(port, other))) await control.listen(port, deadline);
}

/** Whether two forwards listen on the same port of the same address. */
export function isSamePort(one: HostPort, other: HostPort): boolean {
  return one.hostAddress === other.hostAddress && one.hostPort === other.hostPort;
}
