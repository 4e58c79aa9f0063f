// Whether a file or directory of the cache is part of some VM, or of a disk that outlived one. The cache may serve
// several state directories.

import { existsSync } from "node:fs";
import { join, sep } from "node:path";
import { STATE_SCHEMA } from "../storage/migrations.js";
import { Store } from "../storage/store.js";
import { decodeCapture } from "./capture-spec.js";
import type { VmContext } from "./context.js";
import { decodeSpec, type VmSpec } from "./vm-spec.js";

/** @param path A file that a VM boots from, or a directory around it. */
export function isBootedFrom(ctx: VmContext, path: string): boolean {
  if (isUsedBy(ctx.store, path)) return true;
  return ctx
    .cache()
    .tenants()
    .filter((stateDir) => stateDir !== ctx.paths.stateDir)
    .some((stateDir) => isUsedByTenant(ctx, stateDir, path));
}

function isUsedByTenant(ctx: VmContext, stateDir: string, path: string): boolean {
  if (!existsSync(join(stateDir, STATE_SCHEMA.file))) {
    ctx.cache().removeTenant(stateDir);
    return false;
  }
  let store: Store | undefined;
  try {
    store = new Store(stateDir);
    return isUsedBy(store, path);
  } catch {
    return true; // What cannot be read may well use it.
  } finally {
    store?.close();
  }
}

/** Every file of others that a VM needs, or may need again. */
export function filesOf(spec: VmSpec): string[] {
  const { kernelPath, initrdPath, memoryBasePath } = spec;
  return [kernelPath, initrdPath, ...filesOfDisk(spec), ...(memoryBasePath === null ? [] : [memoryBasePath])];
}

/** What a VM's own layer stands on, or its shared disk itself. */
export function filesOfDisk({ disk }: VmSpec): string[] {
  return disk.mode === "isolated" ? [...disk.layers, disk.basePath] : [disk.path];
}

/**
 * Whether a VM, a capture or a kept disk of a state directory needs a file or directory.
 *
 * @param exceptCapture Id of a capture whose own needs do not count.
 */
export function isUsedBy(store: Store, path: string, exceptCapture?: string): boolean {
  const isPart = (file: string) => file === path || file.startsWith(path + sep);
  if (store.vms.list().some((row) => filesOf(decodeSpec(row.id, row.spec)).some(isPart))) return true;
  const captures = store.captures.list().filter(({ id }) => id !== exceptCapture);
  if (captures.some((row) => filesOf(decodeCapture(row).vm).some(isPart))) return true;
  // While a VM is being deleted its disk may be on record and not yet in its place.
  const isSettled = store.vms.list().every(({ move }) => move?.transition !== "deleting");
  return store.retainedDisks.list().some((disk) => {
    if (existsSync(disk.path) || !isSettled) return disk.basePaths.some(isPart);
    store.retainedDisks.forget(disk.path);
    return false;
  });
}
