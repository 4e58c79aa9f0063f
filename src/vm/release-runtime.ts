// Takes away what a VM has only while it runs: processes, sockets, lanes. Its disk and record stay.

import { Deadline } from "../base/deadline.js";
import { settleAll } from "../base/settle-all.js";
import { endProcessGroup, hasEnded } from "../host/end-process.js";
import { findProcesses } from "../host/find-processes.js";
import type { Resource } from "../storage/resource-store.js";
import type { VmContext } from "./context.js";
import { LOG_KEEPER_ROLE, PROGRAMS_BY_ROLE, TAP_RESOURCE, VMM_ROLE } from "./resources.js";
import { removeRuntimeDirectory } from "./runtime-directory.js";
import { tapOwner } from "./start-tap.js";

/** How long the log keeper may take to write what is left after its VMM ended, in milliseconds. */
const LAST_WORDS_MS = 1_000;

/** How long the removal of a TAP device may take, in milliseconds. */
const TAP_TIMEOUT_MS = 30_000;

/** How to end the VMM. */
export interface ReleaseOptions {
  /** Time to close its files after SIGTERM, in milliseconds; 0 (default) kills it. */
  readonly graceMs?: number;
}

/**
 * Ends the VM's processes and removes its sockets; a record goes when its resource is gone. Idempotent.
 *
 * @throws {INTERNAL} {STORAGE_FAILED} when something could not be removed; it stays on record.
 */
export async function releaseRuntime(ctx: VmContext, vmId: string, options: ReleaseOptions = {}): Promise<void> {
  ctx.channels.drop(vmId);
  const resources = ctx.store.resources.list(vmId);
  const runtimeDirs = resources.filter(({ kind }) => kind === "runtime").map(({ name }) => name);
  const processes = resources.filter(({ kind }) => kind === "process");
  const end = (resource: Resource, graceMs: number) => endRecorded(ctx, vmId, resource, { runtimeDirs, graceMs });
  const vmms = processes.filter(({ name }) => name === VMM_ROLE);
  const others = processes.filter(({ name }) => name !== VMM_ROLE);
  const { graceMs = 0 } = options;
  // The others end by themselves when the VMM is gone: where that is at once, they need not wait for their turn.
  if (graceMs > 0) await settleAll(vmms.map((resource) => end(resource, graceMs)));
  await settleAll([...(graceMs > 0 ? [] : vmms), ...others].map((resource) => end(resource, 0)));
  if (resources.some(({ kind }) => kind === TAP_RESOURCE.kind)) {
    await ctx.taps().networks.tearDown(tapOwner(ctx, vmId), Deadline.after(TAP_TIMEOUT_MS));
    ctx.store.resources.forget(vmId, TAP_RESOURCE);
  }
  for (const name of runtimeDirs) {
    await removeRuntimeDirectory(name);
    ctx.store.resources.forget(vmId, { kind: "runtime", name });
  }
  ctx.store.lanes.releaseAll(vmId);
}

async function endRecorded(
  ctx: VmContext,
  vmId: string,
  resource: Resource,
  how: { readonly runtimeDirs: readonly string[]; readonly graceMs: number },
): Promise<void> {
  const program = PROGRAMS_BY_ROLE[resource.name];
  const recorded = resource.process === undefined ? [] : [resource.process];
  // Started but not recorded: its starter died in between. The runtime directory's name occurs nowhere else.
  const unrecorded =
    recorded.length === 0 && program !== undefined
      ? how.runtimeDirs.flatMap((directory) => findProcesses(program, directory))
      : [];
  for (const identity of [...recorded, ...unrecorded]) {
    if (resource.name === LOG_KEEPER_ROLE) await hasEnded(identity, LAST_WORDS_MS);
    await endProcessGroup(identity, how.graceMs);
  }
  ctx.store.resources.forget(vmId, resource);
}
