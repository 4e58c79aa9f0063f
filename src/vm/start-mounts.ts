// Makes the directories of the host that a VM was promised visible in its guest. The process that serves them outlives
// this program, and ends with the VMM.

import { backendFor } from "../backends/registry.js";
import type { Deadline } from "../base/deadline.js";
import { within } from "../base/within.js";
import { SmolVMError } from "../errors/smolvm-error.js";
import { waitError } from "../errors/wait-errors.js";
import { endProcessGroup } from "../host/end-process.js";
import { identifyProcess, selfIdentity } from "../host/process-identity.js";
import type { LaneLease } from "../storage/lane-store.js";
import type { VmContext } from "./context.js";
import { helperPath } from "./helper-programs.js";
import { mountFailed } from "./mount-plan.js";
import { type MountServer, startMountServer } from "./mount-server.js";
import { MOUNTS_ROLE } from "./resources.js";
import type { VmSpec } from "./vm-spec.js";

/** Bound of the connection to a guest that has answered already, in milliseconds. */
const DIAL_TIMEOUT_MS = 10_000;

/** What is started, and for how long it may take. */
export interface MountStart {
  readonly vmId: string;
  readonly spec: VmSpec;
  readonly runtimeDir: string;
  readonly deadline: Deadline;
}

/**
 * Mounts everything of `spec.mounts` in a guest that is configured, and returns when all of it can be used. Whoever
 * calls it releases what a failure leaves on record, as for the VMM.
 *
 * @throws {MOUNT_FAILED} with `details.errno`. @throws {HOST_UNSUPPORTED} {BUSY} {CHANNEL_CLOSED} {TIMEOUT} {ABORTED}
 */
export async function startMounts(ctx: VmContext, start: MountStart): Promise<void> {
  const { vmId, spec, deadline } = start;
  if (spec.mounts.length === 0) return;
  const program = helperPath("hostfs");
  const self = await selfIdentity();
  const { features } = backendFor(spec.backend);
  const lane = ctx.store.lanes.lease(vmId, { laneCount: features.laneCount, holder: self, dead: [] });
  if (lane === undefined) {
    throw new SmolVMError("BUSY", `Cannot mount directories in VM "${vmId}": all its lanes are in use`, {
      details: { vmId, laneCount: features.laneCount },
    });
  }
  const lease = { lane, holder: self };
  try {
    ctx.store.resources.plan(vmId, [{ kind: "process", name: MOUNTS_ROLE }]);
    const server = await startServer(ctx, start, { program, lease });
    await serve(server, start).finally(() => server.forget());
  } catch (error) {
    ctx.store.lanes.release(vmId, lease); // Unless it is the server's: then it dies with that.
    throw error;
  }
  function waited(): never {
    throw waitError(`Mounts of VM "${vmId}"`, deadline);
  }
  async function serve(server: MountServer, { spec }: MountStart): Promise<void> {
    const failure = await within(server.serve(spec.mounts), deadline, waited);
    if (failure === undefined) return;
    const { index, code, reason } = failure;
    const mount = spec.mounts[index];
    if (mount !== undefined) throw mountFailed(vmId, mount, `${reason} (${code})`);
    throw new SmolVMError("MOUNT_FAILED", `Cannot mount directories in VM "${vmId}": ${reason}`, {
      details: { vmId, reason },
    });
  }
}

/** Starts the server on a lane, which then is the server's own. */
async function startServer(
  ctx: VmContext,
  { vmId, spec, runtimeDir, deadline }: MountStart,
  { program, lease }: { readonly program: string; readonly lease: LaneLease },
): Promise<MountServer> {
  const socket = await backendFor(spec.backend).dial(runtimeDir, lease.lane, deadline.atMost(DIAL_TIMEOUT_MS));
  const server = await startMountServer(program, runtimeDir, socket);
  const identity = await identifyProcess(server.pid);
  if (identity === undefined) return server; // It has ended, and `serve` says so.
  try {
    ctx.store.transaction(() => {
      ctx.store.resources.setProcess(vmId, MOUNTS_ROLE, identity);
      ctx.store.lanes.handOver(vmId, lease, identity);
    });
    return server;
  } catch (error) {
    server.forget();
    await endProcessGroup(identity);
    throw error;
  }
}
