// Opens and closes ports of the host that lead to a VM's guest, while it exists.

import { Deadline, type WaitOptions } from "../../base/deadline.js";
import { invalidConfig } from "../../errors/invalid-config.js";
import { isSmolVMError, SmolVMError } from "../../errors/smolvm-error.js";
import type { HostPort, PortForward } from "../../storage/port-store.js";
import { changeVm, findVm } from "../claim.js";
import type { VmContext } from "../context.js";
import { earlierRun, isEarlierRun } from "../earlier-run.js";
import { refreshVm } from "../refresh-vm.js";
import { isSamePort, livePorts, openPorts, servePorts } from "./ensure-ports.js";
import type { PortControl } from "./port-control.js";
import { PORTS_LIMIT } from "./port-options.js";
import { explainTaken } from "./taken-port.js";
import { forgetUnserved } from "./unserved-ports.js";
import { userPorts } from "./user-ports.js";

/** Default bound of each call, in milliseconds. */
const PORTS_TIMEOUT_MS = 30_000;
/** How long a port may take to be closed that could not be recorded, in milliseconds. */
const UNDO_TIMEOUT_MS = 5_000;
/** Tries at a free port: the kernel knows nothing of those that belong to VMs that are stopped. */
const CHOICE_ATTEMPTS = 8;

/**
 * Leads a port of the host to one of the guest, until it is closed or the VM is deleted: also after this program has
 * ended, and again after each start.
 *
 * @param asked Its `hostPort` 0: a free one. The same forward twice is one.
 * @throws {PORT_IN_USE} when the host port is taken, by whomever; it says by which VM of this state directory, if any.
 * @throws {INVALID_CONFIG} for an address that this host does not have, or one port too many.
 * @throws {INVALID_STATE} when the VM does not run, naming the call that helps. @throws {VM_NOT_FOUND}
 * @throws {UNSUPPORTED} when an earlier SmolVM started the VM, or booted what it goes on from.
 * @throws {NETWORK_FAILED} {HOST_UNSUPPORTED} {BUSY} {TIMEOUT} {ABORTED} {STORAGE_FAILED}
 */
export async function exposePort(
  ctx: VmContext,
  vmId: string,
  asked: PortForward,
  options: WaitOptions = {},
): Promise<PortForward> {
  const deadline = Deadline.from(options, PORTS_TIMEOUT_MS);
  const exposed = await changeVm(ctx, { vmId, verb: "expose" }, deadline, {
    work: async (row) => {
      const known = findKnown(ctx, vmId, asked);
      const { control, unserved } = await openPorts(ctx, row, deadline);
      const missing = known && unserved.find(({ port }) => isSamePort(port, known));
      if (missing !== undefined) throw missing.error;
      const value = known ?? (await listenAnew(ctx, vmId, { control, asked }, deadline));
      return { end: { status: row.status, failure: row.failure }, value };
    },
  });
  if (exposed === undefined) throw new SmolVMError("INTERNAL", `Exposing a port of VM "${vmId}" had nothing to do`);
  return exposed;
}

/**
 * Stops leading a port of the host to the guest, in whatever state the VM is.
 *
 * @returns Whether there was such a forward.
 * @throws {INVALID_CONFIG} for that of the VM's SSH server. @throws {VM_NOT_FOUND}
 * @throws {UNSUPPORTED} while what an earlier SmolVM started runs.
 * @throws {NETWORK_FAILED} {BUSY} {TIMEOUT} {ABORTED} {STORAGE_FAILED}
 */
export async function closePort(
  ctx: VmContext,
  vmId: string,
  port: HostPort,
  options: WaitOptions = {},
): Promise<boolean> {
  const deadline = Deadline.from(options, PORTS_TIMEOUT_MS);
  const isThere = await changeVm(ctx, { vmId, verb: "network" }, deadline, {
    work: async (row) => {
      const value = findClosable(ctx, vmId, port);
      if (value) {
        if (isEarlierRun(row)) throw earlierRun(vmId, "close a port of");
        const control = await livePorts(ctx, row); // What becomes of the others is nobody's concern here.
        await control?.close(port, deadline);
        ctx.store.ports.release(vmId, port);
        forgetUnserved(ctx, vmId, port);
      }
      return { end: { status: row.status, failure: row.failure }, value };
    },
  });
  return isThere ?? false;
}

/**
 * The forwards of a VM, but for that of its SSH server, in the order in which they came. Those of a VM that runs work
 * when this returns, but for those that cannot be listened on any more: `info().warnings` names these.
 *
 * @throws {VM_NOT_FOUND} @throws what {@link servePorts} throws.
 */
export async function listPorts(
  ctx: VmContext,
  vmId: string,
  options: WaitOptions = {},
): Promise<readonly PortForward[]> {
  const row = await refreshVm(ctx, findVm(ctx, vmId));
  const isSteady = row?.status === "running" && row.move === undefined;
  if (isSteady) await servePorts(ctx, vmId, ctx.store.ports.list(vmId), Deadline.from(options, PORTS_TIMEOUT_MS));
  return userPorts(ctx, findVm(ctx, vmId).id);
}

/** The forward that was asked for, if it is there already. */
function findKnown(ctx: VmContext, vmId: string, asked: PortForward): PortForward | undefined {
  const ports = userPorts(ctx, vmId);
  const known = ports.find((port) => isSamePort(port, asked) && port.guestPort === asked.guestPort);
  if (known === undefined && ports.length >= PORTS_LIMIT) {
    const expected = `at most ${PORTS_LIMIT} ports of one VM: close one first`;
    throw invalidConfig({ field: "guestPort", value: asked.guestPort, expected });
  }
  return known;
}

function findClosable(ctx: VmContext, vmId: string, port: HostPort): boolean {
  const row = ctx.store.ports.list(vmId).find((other) => isSamePort(port, other));
  if (row?.origin !== "ssh") return row !== undefined;
  const expected = "a port of ports(): this one is that of the VM's SSH server";
  throw invalidConfig({ field: "hostPort", value: port.hostPort, expected });
}

/** Listens, then records it. What cannot be recorded is closed again. */
async function listenAnew(
  ctx: VmContext,
  vmId: string,
  { control, asked }: { readonly control: PortControl; readonly asked: PortForward },
  deadline: Deadline,
): Promise<PortForward> {
  for (let attempt = 1; ; attempt++) {
    const hostPort = await listenOrExplain(ctx, control, asked, deadline);
    const forward = { ...asked, hostPort };
    try {
      // A port of a VM that is stopped could be listened on, and is refused here.
      ctx.store.ports.reserve(vmId, [{ ...forward, origin: "expose" }]);
      return forward;
    } catch (error) {
      await control.close(forward, Deadline.after(UNDO_TIMEOUT_MS)).catch(() => {}); // Else at the next call.
      const mayChooseAgain = asked.hostPort === 0 && isSmolVMError(error, "PORT_IN_USE");
      if (!mayChooseAgain || attempt === CHOICE_ATTEMPTS) throw explainTaken(ctx, forward, error);
    }
  }
}

async function listenOrExplain(
  ctx: VmContext,
  control: PortControl,
  asked: PortForward,
  deadline: Deadline,
): Promise<number> {
  try {
    return await control.listen(asked, deadline);
  } catch (error) {
    if (!isSmolVMError(error, "NETWORK_FAILED") || error.details["reason"] !== "EADDRNOTAVAIL")
      throw explainTaken(ctx, asked, error);
    throw invalidConfig({ field: "hostAddress", value: asked.hostAddress, expected: "an address of this host" }, error);
  }
}
