// Removes everything of a VM. The record goes last, in one transaction, when nothing is left of what it names.

import { mkdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { fileError } from "../errors/file-error.js";
import type { VmRow } from "../storage/vm-store.js";
import { sweepCaptures } from "./captures.js";
import type { VmContext } from "./context.js";
import { releaseRuntime } from "./release-runtime.js";
import { decodeSpec } from "./vm-spec.js";

/** Directory for the disks of deleted VMs that were to be kept, below the state directory. */
export const RETAINED_DIRECTORY = "retained";

/**
 * The caller holds the VM's claim.
 *
 * @returns Where its disk was kept, if it was to be.
 * @throws {INTERNAL} {STORAGE_FAILED} when something could not be removed; that stays on record.
 */
export async function removeVm(ctx: VmContext, row: VmRow): Promise<string | undefined> {
  await releaseRuntime(ctx, row.id);
  const wasMade = row.move?.transition !== "creating";
  const retained = wasMade ? await retainDisk(ctx, row) : undefined;
  for (const { kind, name } of ctx.store.resources.list(row.id)) {
    if (kind !== "directory") continue;
    await rm(name, { recursive: true, force: true }).catch((error: unknown) => {
      throw fileError(`Delete VM "${row.id}"`, name, error);
    });
  }
  ctx.store.transaction(() => {
    for (const resource of ctx.store.resources.list(row.id)) ctx.store.resources.forget(row.id, resource);
    for (const { id, kind, vmId } of ctx.store.captures.list()) {
      if (kind === "checkpoint" && vmId === row.id) ctx.store.captures.makeBase(id);
    }
    ctx.store.vms.remove(row.id);
  });
  await sweepCaptures(ctx); // Its checkpoints, and what only it stood on. What cannot go now is swept later.
  return retained;
}

/** @returns Where the disk is now, if it is one to be kept. */
async function retainDisk(ctx: VmContext, row: VmRow): Promise<string | undefined> {
  const { disk, retainDiskOnDelete } = decodeSpec(row.id, row.spec);
  if (!retainDiskOnDelete || disk.mode !== "isolated") return undefined;
  const directory = join(ctx.paths.stateDir, RETAINED_DIRECTORY);
  const path = join(directory, `${row.id}-${row.createdAtMs}.qcow2`);
  try {
    ctx.store.retainedDisks.add({ path, basePaths: [...disk.layers, disk.basePath] });
    await mkdir(directory, { recursive: true, mode: 0o700 });
    await rename(disk.path, path);
  } catch (error) {
    // An earlier, interrupted delete has moved it already.
    if ((error as NodeJS.ErrnoException).code !== "ENOENT")
      throw fileError(`Keep the disk of VM "${row.id}"`, path, error);
  }
  return path;
}
