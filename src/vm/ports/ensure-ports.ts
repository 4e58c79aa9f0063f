// Sees to it that what is on record of a running VM's ports is served: by the process that runs, or by a new one when
// that was found dead.

import type { Deadline } from "../../base/deadline.js";
import { SmolVMError } from "../../errors/smolvm-error.js";
import type { HostPort, PortRow } from "../../storage/port-store.js";
import type { VmRow } from "../../storage/vm-store.js";
import { changeVm } from "../claim.js";
import type { VmContext } from "../context.js";
import { earlierRun, isEarlierRun } from "../earlier-run.js";
import { isLive } from "../lifecycle.js";
import { liveProcess } from "../live-process.js";
import { PORTS_ROLE, runtimeDirectory } from "../resources.js";
import { decodeSpec } from "../vm-spec.js";
import { HeldPorts } from "./held-ports.js";
import { PortControl } from "./port-control.js";
import { portControlPath, startPorts } from "./start-ports.js";
import { isAnyUnserved, isUnlistenable, recordUnserved, type UnservedPort } from "./unserved-ports.js";

/**
 * Makes the port of a running VM's SSH server work again, and all others that can be served, if the process that serves
 * them was killed. It costs a look at that process. `info().warnings` names those that cannot be served.
 *
 * @throws {PORT_IN_USE} when somebody else got that of the SSH server meanwhile. @throws {NETWORK_FAILED}
 * @throws {HOST_UNSUPPORTED} {VM_NOT_FOUND} {BUSY} {TIMEOUT} {ABORTED} {STORAGE_FAILED}
 */
export async function ensurePorts(ctx: VmContext, vmId: string, deadline: Deadline): Promise<void> {
  const isSsh = ({ origin }: PortRow) => origin === "ssh";
  const unserved = await servePorts(ctx, vmId, ctx.store.ports.list(vmId).filter(isSsh), deadline);
  const missing = unserved.find(({ port }) => isSsh(port));
  if (missing !== undefined) throw missing.error;
}

/**
 * The same for all ports alike: one that cannot be listened on is no error.
 *
 * @param wanted Those to try again if they could not be served before.
 * @returns Those that cannot be served; none when there was nothing to do.
 * @throws {NETWORK_FAILED} {HOST_UNSUPPORTED} {VM_NOT_FOUND} {BUSY} {TIMEOUT} {ABORTED} {STORAGE_FAILED}
 */
export async function servePorts(
  ctx: VmContext,
  vmId: string,
  wanted: readonly HostPort[],
  deadline: Deadline,
): Promise<readonly UnservedPort[]> {
  if (await areServed(ctx, vmId, wanted)) return [];
  const unserved = await changeVm(ctx, { vmId, verb: "network" }, deadline, {
    work: async (row) => {
      // A VM that was paused or stopped meanwhile has them again when it goes on. A paused guest answers nobody.
      const isNeeded = row.status === "running" && !(await areServed(ctx, vmId, wanted));
      const value = isNeeded ? (await openPorts(ctx, row, deadline)).unserved : [];
      return { end: { status: row.status, failure: row.failure }, value };
    },
  });
  return unserved ?? [];
}

async function areServed(ctx: VmContext, vmId: string, wanted: readonly HostPort[]): Promise<boolean> {
  if (ctx.store.ports.list(vmId).length === 0) return true;
  const row = ctx.store.vms.find(vmId);
  if (row !== undefined && isEarlierRun(row)) return true; // By its network's program, as long as that lives.
  if (isAnyUnserved(ctx, vmId, wanted)) return false;
  return (await liveProcess(ctx, vmId, PORTS_ROLE)) !== undefined;
}

/** A process that serves what is on record. */
export interface OpenPorts {
  /** The way to order changes. */
  readonly control: PortControl;
  /** What it cannot serve; `info().warnings` says so, too. */
  readonly unserved: readonly UnservedPort[];
}

/**
 * A process that serves exactly what is on record, but for what cannot be listened on; started if need be. The caller
 * holds the claim of a running VM.
 *
 * @throws {UNSUPPORTED} when an earlier SmolVM started the VM. @throws what {@link servePorts} throws.
 */
export async function openPorts(ctx: VmContext, row: VmRow, deadline: Deadline): Promise<OpenPorts> {
  if (isEarlierRun(row)) throw earlierRun(row.id, "expose a port of");
  const running = await livePorts(ctx, row);
  const opened =
    running === undefined
      ? await startAnew(ctx, row, deadline)
      : { control: running, unserved: await agree(ctx, row.id, running, deadline) };
  recordUnserved(ctx, row.id, opened.unserved);
  return opened;
}

async function startAnew(ctx: VmContext, row: VmRow, deadline: Deadline): Promise<OpenPorts> {
  const runtimeDir = runtimeDirectory(ctx, row.id);
  if (runtimeDir === undefined) {
    throw new SmolVMError("INTERNAL", `VM "${row.id}" runs without a runtime directory`, { details: { vmId: row.id } });
  }
  const unserved: UnservedPort[] = [];
  const spec = decodeSpec(row.id, row.spec);
  const onUnserved = (port: UnservedPort) => void unserved.push(port);
  await startPorts(ctx, { vmId: row.id, spec, runtimeDir, deadline, onUnserved }, new HeldPorts());
  return { control: new PortControl(row.id, portControlPath(runtimeDir)), unserved };
}

/**
 * The way to order changes of a process that runs, whatever it serves; nothing is started.
 *
 * @returns `undefined` when there is none.
 */
export async function livePorts(ctx: VmContext, row: VmRow): Promise<PortControl | undefined> {
  const runtimeDir = runtimeDirectory(ctx, row.id);
  if (!isLive(row.status) || runtimeDir === undefined) return undefined;
  if ((await liveProcess(ctx, row.id, PORTS_ROLE)) === undefined) return undefined;
  return new PortControl(row.id, portControlPath(runtimeDir));
}

/**
 * Makes what it listens on what is on record. Whoever died between ordering and recording has left a difference; nobody
 * else is in between now.
 *
 * @returns What it cannot listen on.
 */
async function agree(
  ctx: VmContext,
  vmId: string,
  control: PortControl,
  deadline: Deadline,
): Promise<readonly UnservedPort[]> {
  const recorded = ctx.store.ports.list(vmId);
  const served = await control.list(deadline);
  for (const port of served)
    if (!recorded.some((other) => isSamePort(port, other))) await control.close(port, deadline);
  const unserved: UnservedPort[] = [];
  for (const port of recorded) {
    if (served.some((other) => isSamePort(port, other))) continue;
    try {
      await control.listen(port, deadline);
    } catch (error) {
      if (!isUnlistenable(error)) throw error;
      unserved.push({ port, error });
    }
  }
  return unserved;
}

/** Whether two forwards listen on the same port of the same address. */
export function isSamePort(one: HostPort, other: HostPort): boolean {
  return one.hostAddress === other.hostAddress && one.hostPort === other.hostPort;
}
