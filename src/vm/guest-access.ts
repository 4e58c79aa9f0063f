// The way to a running VM's guest: whoever wants something of it comes through here.

import type { Deadline } from "../base/deadline.js";
import { SmolVMError } from "../errors/smolvm-error.js";
import type { GuestConnection } from "../guest/connection.js";
import type { VmRow } from "../storage/vm-store.js";
import { reviveNetwork } from "./change-network.js";
import { findVm } from "./claim.js";
import type { VmContext } from "./context.js";
import type { GuestAddress } from "./guest-channels.js";
import { HELP_TO_RUN } from "./lifecycle.js";
import { revivePorts } from "./ports/revive-ports.js";
import { refreshVm } from "./refresh-vm.js";
import { runtimeDirectory } from "./resources.js";
import { dialSsh } from "./ssh/dial-ssh.js";
import { readSshTarget } from "./ssh/ssh-target.js";
import { decodeSpec } from "./vm-spec.js";

/** Who wants to reach the guest of which VM, and what for. */
export interface GuestErrand {
  readonly vmId: string;
  /** Completes "Cannot ... VM", e.g. `"run a command in"`. */
  readonly purpose: string;
}

/**
 * The connection to a running VM's guest, opened if need be.
 *
 * @throws {VM_NOT_FOUND}
 * @throws {INVALID_STATE} when the VM does not run, naming the call that helps.
 * @throws {SSH_FAILED} when the VM has the SSH channel and its server cannot be reached.
 * @throws {BUSY} {TIMEOUT} {ABORTED} {CHANNEL_CLOSED}
 */
export async function guestConnection(
  ctx: VmContext,
  errand: GuestErrand,
  deadline: Deadline,
): Promise<GuestConnection> {
  // An open connection to a VM on record as running is all it takes: it closes when the VMM ends.
  const row = findVm(ctx, errand.vmId);
  const isSteady = row.status === "running" && row.move === undefined;
  const { networkMode, ssh } = decodeSpec(row.id, row.spec);
  if (isSteady) await reviveNetwork(ctx, row, networkMode, deadline);
  const way = ssh === undefined ? "lane" : "ssh";
  const find = () => (isSteady ? ctx.channels.find(errand.vmId, way) : undefined);
  if (isSteady) await revivePorts(ctx, row, way === "ssh" && find() === undefined, deadline);
  const open = find(); // One over SSH ends with the process that served its port.
  return open ?? ctx.channels.get(await guestAddress(ctx, row, errand), deadline);
}

/**
 * Where a running VM's guest is reached by those who use it.
 *
 * @throws {VM_NOT_FOUND} @throws {INVALID_STATE} when the VM does not run, naming the call that helps.
 */
export async function guestAddress(
  ctx: VmContext,
  recorded: VmRow,
  { vmId, purpose }: GuestErrand,
): Promise<GuestAddress> {
  // A VMM that ended is noticed here, before anybody waits for its lanes.
  const row = (await refreshVm(ctx, recorded)) ?? findVm(ctx, vmId);
  const help = HELP_TO_RUN[row.status];
  const runtimeDir = runtimeDirectory(ctx, vmId);
  if (help !== undefined || runtimeDir === undefined) {
    const text = `Cannot ${purpose} VM "${vmId}": it is ${row.status}; call ${help ?? "start()"} first`;
    throw new SmolVMError("INVALID_STATE", text, { details: { vmId, status: row.status, helps: help } });
  }
  const { backend, directory, ssh } = decodeSpec(vmId, row.spec);
  if (ssh === undefined) return { vmId, backend, runtimeDir };
  const dial = async (deadline: Deadline) => dialSsh(await readSshTarget(vmId, directory, ssh), deadline);
  return { vmId, backend, runtimeDir, dialSsh: dial };
}
