// The making of a VM as one piece: record, directory, files, and where asked to its start. A failure leaves nothing.

import { existsSync } from "node:fs";
import { mkdir, rm } from "node:fs/promises";
import { Phases } from "../base/phases.js";
import { fileError } from "../errors/file-error.js";
import { SmolVMError } from "../errors/smolvm-error.js";
import { throwIfAborted } from "../errors/wait-errors.js";
import { type ProcessIdentity, selfIdentity } from "../host/process-identity.js";
import type { ChosenPorts } from "./choose-ports.js";
import type { VmContext } from "./context.js";
import { type Environment, writeEnvironment } from "./environment-file.js";
import { failureOf } from "./failure.js";
import { filesOf } from "./is-booted-from.js";
import type { HeldPorts } from "./ports/held-ports.js";
import { removeVm } from "./remove-vm.js";
import { settleVm } from "./settle-vm.js";
import { writeSshFiles } from "./ssh/ssh-files.js";
import { encodeSpec, type VmSpec } from "./vm-spec.js";

/** Directory of all VMs' own directories, below the state directory. */
export const VMS_DIRECTORY = "vms";
/** Name of an isolated disk in the VM's directory. */
export const DISK_FILE = "disk.qcow2";

/** A VM that was made, to be brought up. */
export interface NewVm {
  readonly vmId: string;
  readonly spec: VmSpec;
  /** Its host ports are listened on. */
  readonly held: HeldPorts;
}

/** A VM to make. */
export interface NewVmPlan {
  readonly vmId: string;
  /** All but the guest number, which comes with the record. */
  readonly spec: Omit<VmSpec, "guestNumber">;
  /** The host ports that are to be its own, also that of its SSH server. */
  readonly ports: Pick<ChosenPorts, "rows" | "held">;
  readonly env: Environment;
  /** The VM goes with this process. */
  readonly keeper: ProcessIdentity | undefined;
  readonly signal: AbortSignal | undefined;
  /** Looks, in the transaction that records the VM, whether what it stands on is still there; throws if not. */
  readonly check?: () => void;
  /** Brings it up; without it the VM is only made. */
  readonly start: ((vm: NewVm) => Promise<void>) | undefined;
}

/** A file went between being found and being on record as used. */
export class PrunedMeanwhile extends SmolVMError {
  constructor(path: string) {
    super("IMAGE_FAILED", `Cannot create a VM from "${path}": it was removed meanwhile`, { details: { path } });
  }
}

/** @throws {VM_EXISTS} {PORT_IN_USE} {STORAGE_FAILED} {ABORTED} and what `start` throws. */
export async function makeVm(ctx: VmContext, plan: NewVmPlan): Promise<void> {
  const { vmId } = plan;
  const phases = new Phases("create", vmId);
  const self = await selfIdentity();
  const spec = recordVm(ctx, plan, self);
  try {
    throwIfAborted(`Creation of VM "${vmId}"`, plan.signal);
    const gone = filesOf(spec).find((path) => !path.startsWith(spec.directory) && !existsSync(path));
    if (gone !== undefined) throw new PrunedMeanwhile(gone);
    await makeDirectory(vmId, spec.directory);
    await Promise.all([writeEnvironment(spec.directory, plan.env), writeSshFiles(spec.directory, spec.ssh)]);
    phases.end("record and files");
    await plan.start?.({ vmId, spec, held: plan.ports.held });
    ctx.store.vms.settle(vmId, self, { status: plan.start === undefined ? "created" : "running" });
  } catch (error) {
    const row = ctx.store.vms.find(vmId);
    if (row !== undefined) {
      // What cannot be removed stays on record and can be deleted again; why the creation failed matters more.
      await removeVm(ctx, row).catch((left: unknown) =>
        settleVm(ctx, vmId, self, { status: "error", failure: failureOf(left) }),
      );
    }
    throw error;
  }
}

function recordVm(ctx: VmContext, plan: NewVmPlan, self: ProcessIdentity): VmSpec {
  const { vmId, keeper } = plan;
  ctx.cache().addTenant(ctx.paths.stateDir); // Before the row: a prune from elsewhere has to look here.
  return ctx.store.transaction(() => {
    plan.check?.();
    const guestNumber = ctx.store.vms.freeGuestNumber();
    const spec = { ...plan.spec, guestNumber };
    ctx.store.vms.insert({ id: vmId, spec: encodeSpec(spec), guestNumber, mover: self, keeper });
    ctx.store.ports.reserve(vmId, plan.ports.rows);
    ctx.store.resources.plan(vmId, [{ kind: "directory", name: spec.directory }]);
    return spec;
  });
}

/** The row of this id is ours, so whatever lies here is nobody's: it goes, and is never adopted. */
async function makeDirectory(id: string, directory: string): Promise<void> {
  try {
    await rm(directory, { recursive: true, force: true });
    await mkdir(directory, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw fileError(`Create VM "${id}"`, directory, error);
  }
}
