// The environment of a VM's commands, changed while the VM exists. The file is the truth; a running guest is told.

import { Deadline, type WaitOptions } from "../base/deadline.js";
import { pollUntil } from "../base/sleep.js";
import { invalidConfig } from "../errors/invalid-config.js";
import { SmolVMError } from "../errors/smolvm-error.js";
import { waitError } from "../errors/wait-errors.js";
import { setGuestEnvironment } from "../guest/configure.js";
import { findVm } from "./claim.js";
import type { VmContext } from "./context.js";
import { type Environment, readEnvironment, replaceEnvironment } from "./environment-file.js";
import { guestConnection } from "./guest-access.js";
import { refreshVm } from "./refresh-vm.js";
import { checkEnvironment } from "./vm-config.js";
import { decodeSpec } from "./vm-spec.js";

/** Longest wait for a guest to take its environment unless asked otherwise, in milliseconds. */
const ENVIRONMENT_TIMEOUT_MS = 30_000;

/** @throws {VM_NOT_FOUND} {STORAGE_FAILED} */
export async function listEnvironment(ctx: VmContext, vmId: string): Promise<Record<string, string>> {
  return { ...(await readEnvironment(directoryOf(ctx, vmId))) };
}

/**
 * Changes variables of all later commands; they stay over restarts.
 *
 * @param change Takes the variables as they are and gives them as they are to be.
 * @throws {INVALID_CONFIG} naming the variable, before anything is changed. @throws {VM_NOT_FOUND}
 * @throws {INVALID_STATE} when the VM is paused: its guest cannot be told. One that was paused meanwhile has stored them.
 * @throws {STORAGE_FAILED} The old variables stay.
 * @throws {TIMEOUT} {ABORTED} {CHANNEL_CLOSED} They are stored, but the guest may not know them before its next start.
 */
export async function changeEnvironment(
  ctx: VmContext,
  vmId: string,
  change: (env: Environment) => Environment,
  options?: WaitOptions,
): Promise<void> {
  const deadline = Deadline.from(options, ENVIRONMENT_TIMEOUT_MS);
  const directory = directoryOf(ctx, vmId);
  await refusePaused(ctx, vmId);
  // Nobody else changes it between reading and writing, whatever process they are in.
  ctx.store.transaction(() => replaceEnvironment(directory, (env) => checkEnvironment(change(env))));
  await tellGuest(ctx, vmId, deadline);
}

/** @throws {INVALID_CONFIG} unless it is a list of names. */
export function checkNames(names: readonly string[]): void {
  if (!Array.isArray(names) || names.some((name) => typeof name !== "string" || name === "")) {
    throw invalidConfig({ field: "names", value: names, expected: "a list of names of variables" });
  }
}

async function refusePaused(ctx: VmContext, vmId: string): Promise<void> {
  const row = await refreshVm(ctx, findVm(ctx, vmId));
  if (row?.status === "paused") throw isPaused(`Cannot change the environment of VM "${vmId}"`, vmId);
}

function isPaused(what: string, vmId: string): SmolVMError {
  return new SmolVMError("INVALID_STATE", `${what}: it is paused; call resume() first`, {
    details: { vmId, status: "paused", helps: "resume()" },
  });
}

/** Whoever changes it at the same time tells the guest too: the last to tell tells what is in the file then. */
async function tellGuest(ctx: VmContext, vmId: string, deadline: Deadline): Promise<void> {
  const row = await pollUntil(async () => {
    const now = findVm(ctx, vmId);
    return now.move === undefined ? now : undefined;
  }, deadline);
  if (row === undefined) throw waitError(`Change of the environment of VM "${vmId}"`, deadline);
  if (row.status === "paused") {
    throw isPaused(`The environment of VM "${vmId}" is stored, but its guest could not be told`, vmId);
  }
  if (row.status !== "running") return; // It is told when it starts.
  const directory = directoryOf(ctx, vmId);
  const connection = await guestConnection(ctx, { vmId, purpose: "change the environment of" }, deadline);
  for (let told = ""; ; ) {
    const env = await readEnvironment(directory);
    if (JSON.stringify(env) === told) return;
    await setGuestEnvironment(connection, env, deadline);
    told = JSON.stringify(env);
  }
}

function directoryOf(ctx: VmContext, vmId: string): string {
  return decodeSpec(vmId, findVm(ctx, vmId).spec).directory;
}
