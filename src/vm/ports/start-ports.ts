// Starts the process that leads a VM's host ports to its guest, over a lane of its own. It outlives this program, and ends
// with the VMM. The caller holds the VM's claim.

import { chownSync, mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { backendFor } from "../../backends/registry.js";
import type { Deadline } from "../../base/deadline.js";
import { within } from "../../base/within.js";
import { SmolVMError } from "../../errors/smolvm-error.js";
import { waitError } from "../../errors/wait-errors.js";
import { endProcessGroup } from "../../host/end-process.js";
import { findProcesses } from "../../host/find-processes.js";
import { identifyProcess } from "../../host/process-identity.js";
import type { ChildEnd, ReadyChild } from "../../host/ready-child.js";
import { unprivilegedUser } from "../../network/unprivileged-user.js";
import type { LaneLease } from "../../storage/lane-store.js";
import type { VmContext } from "../context.js";
import { helperPath } from "../helper-programs.js";
import { leaseLane } from "../lease-lane.js";
import { PORTS_ROLE, PROGRAMS_BY_ROLE } from "../resources.js";
import type { VmSpec } from "../vm-spec.js";
import type { HeldPorts } from "./held-ports.js";
import { CONTROL_NAME, portServerLog, startPortServer } from "./port-server.js";
import { isUnlistenable, type UnservedPort } from "./unserved-ports.js";

/** Bound of the connection to a guest that has answered already, in milliseconds. */
const DIAL_TIMEOUT_MS = 10_000;
/** How long it may take until it serves every port; it gives the guest 10 s to answer. */
const READY_TIMEOUT_MS = 15_000;
/** Said by portd of a guest whose agent does not know how to connect to a port. */
const UNKNOWN_OPERATION = "ENOSYS";
const PORTS_RESOURCE = { kind: "process", name: PORTS_ROLE } as const;

/** Of which VM, and for how long it may take. */
export interface PortsStart {
  readonly vmId: string;
  readonly spec: Pick<VmSpec, "backend">;
  readonly runtimeDir: string;
  readonly deadline: Deadline;
  /** Is told of each port that cannot be listened on, and the others are served. Default: then nothing is started. */
  readonly onUnserved?: (port: UnservedPort) => void;
}

/** Path of its control socket. */
export function portControlPath(runtimeDir: string): string {
  return join(portsDirectory(runtimeDir), CONTROL_NAME);
}

/**
 * Starts it with all forwards on record, and returns when it serves them. An earlier one has ended, or its end is on
 * record. A failure leaves nothing.
 *
 * @throws {UNSUPPORTED} when the agent in the guest is an earlier SmolVM's.
 * @param held Ports that are held already, if any; the others are listened on here. All are closed once it has them.
 * @throws {PORT_IN_USE} when one of them is taken. @throws {NETWORK_FAILED}
 * @throws {HOST_UNSUPPORTED} {BUSY} {TIMEOUT} {ABORTED} {STORAGE_FAILED}
 */
export async function startPorts(ctx: VmContext, start: PortsStart, held: HeldPorts): Promise<void> {
  const { vmId, spec, runtimeDir, deadline } = start;
  const program = helperPath("portd");
  const { laneCount } = backendFor(spec.backend).features;
  try {
    await endUnrecorded(ctx, start);
    const listeners = await holdPorts(ctx, vmId, held, start.onUnserved);
    const lease = await leaseLane(ctx.store, { vmId, laneCount }, deadline);
    try {
      const directory = makeDirectory(runtimeDir);
      const lane = await backendFor(spec.backend).dial(runtimeDir, lease.lane, deadline.atMost(DIAL_TIMEOUT_MS));
      ctx.store.resources.plan(vmId, [PORTS_RESOURCE]);
      const server = await startPortServer({ program, directory, lane, runAs: unprivilegedUser(), listeners });
      held.close(); // In the same turn of the event loop: this program must not accept what is the child's.
      await introduce(ctx, start, { server, lease });
    } catch (error) {
      ctx.store.lanes.release(vmId, lease); // Unless it is the server's: then it dies with that.
      throw error;
    }
  } finally {
    held.close();
  }
}

/** Puts it on record, and waits until it serves. */
async function introduce(
  ctx: VmContext,
  { vmId, runtimeDir, deadline }: PortsStart,
  { server, lease }: { readonly server: ReadyChild; readonly lease: LaneLease },
): Promise<void> {
  const identity = await identifyProcess(server.pid);
  try {
    if (identity !== undefined) {
      ctx.store.transaction(() => {
        ctx.store.resources.setProcess(vmId, PORTS_ROLE, identity);
        ctx.store.lanes.handOver(vmId, lease, identity);
      });
    }
    const bound = deadline.atMost(READY_TIMEOUT_MS);
    const end = await within(server.settled, bound, () => {
      throw waitError(`Start of the port forwards of VM "${vmId}"`, bound);
    });
    if (end !== undefined) {
      throw serverFailed(vmId, { ...end, log: await portServerLog(portsDirectory(runtimeDir)) });
    }
  } catch (error) {
    if (identity !== undefined) {
      await endProcessGroup(identity);
      ctx.store.lanes.release(vmId, { lane: lease.lane, holder: identity });
    }
    ctx.store.resources.forget(vmId, PORTS_RESOURCE);
    throw error;
  } finally {
    server.forget();
  }
}

/** One whose starter died before it was on record still has the ports. A record of a dead one is for nobody. */
async function endUnrecorded(ctx: VmContext, { vmId, runtimeDir }: PortsStart): Promise<void> {
  const old = ctx.store.resources.list(vmId).find(({ kind, name }) => kind === "process" && name === PORTS_ROLE);
  if (old === undefined) return;
  const program = PROGRAMS_BY_ROLE[PORTS_ROLE];
  const found = old.process === undefined && program !== undefined ? findProcesses(program, runtimeDir) : [];
  for (const identity of [...(old.process === undefined ? [] : [old.process]), ...found]) {
    await endProcessGroup(identity);
  }
  ctx.store.resources.forget(vmId, old);
}

/**
 * Listens on all of a VM's host ports that are not held already.
 *
 * @param onUnserved See {@link PortsStart}.
 * @throws {PORT_IN_USE} {NETWORK_FAILED}
 */
export async function holdPorts(
  ctx: VmContext,
  vmId: string,
  held: HeldPorts,
  onUnserved?: (port: UnservedPort) => void,
): Promise<readonly { readonly fd: number; readonly guestPort: number }[]> {
  const listeners: { readonly fd: number; readonly guestPort: number }[] = [];
  for (const forward of ctx.store.ports.list(vmId)) {
    try {
      const { fd } = await held.hold(forward);
      listeners.push({ fd, guestPort: forward.guestPort });
    } catch (error) {
      if (onUnserved === undefined || !isUnlistenable(error)) throw error;
      onUnserved({ port: forward, error });
    }
  }
  return listeners;
}

function portsDirectory(runtimeDir: string): string {
  return join(runtimeDir, "ports");
}

/** Anew: a control socket of an earlier one lies in it. */
function makeDirectory(runtimeDir: string): string {
  const path = portsDirectory(runtimeDir);
  rmSync(path, { recursive: true, force: true });
  mkdirSync(path, { mode: 0o700 });
  const owner = unprivilegedUser();
  if (owner !== undefined) chownSync(path, owner.uid, owner.gid);
  return path;
}

function serverFailed(vmId: string, end: ChildEnd & { readonly log: string }): SmolVMError {
  const how = end.signal === null ? `exited with ${end.exitCode}` : `was killed by ${end.signal}`;
  const last = end.log.trimEnd().split("\n").pop() ?? "";
  if (last.includes(UNKNOWN_OPERATION)) {
    return new SmolVMError("UNSUPPORTED", `Cannot forward ports to VM "${vmId}": an earlier SmolVM booted its guest`, {
      details: { vmId },
      hint: "Stop the VM and start it: what boots then has the agent of this SmolVM.",
    });
  }
  return new SmolVMError("NETWORK_FAILED", `Cannot forward ports to VM "${vmId}": portd ${how}: ${last}`, {
    details: { vmId, ...end },
  });
}
