// Whether a file or directory of the cache is part of some VM, or of a disk that outlived one. The cache may serve
// several state directories.

import { existsSync } from "node:fs";
import { join, sep } from "node:path";
import { STATE_SCHEMA } from "../storage/migrations.js";
import { Store } from "../storage/store.js";
import type { VmContext } from "./context.js";
import { decodeSpec } from "./vm-spec.js";

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

function isUsedBy(store: Store, path: string): boolean {
  const isPart = (file: string) => file === path || file.startsWith(path + sep);
  const isInVm = store.vms.list().some((row) => {
    const { kernelPath, initrdPath, disk } = decodeSpec(row.id, row.spec);
    return [kernelPath, initrdPath, disk.mode === "isolated" ? disk.basePath : disk.path].some(isPart);
  });
  if (isInVm) return true;
  // While a VM is being deleted its disk may be on record and not yet in its place.
  const isSettled = store.vms.list().every(({ move }) => move?.transition !== "deleting");
  return store.retainedDisks.list().some((disk) => {
    if (existsSync(disk.path) || !isSettled) return isPart(disk.basePath);
    store.retainedDisks.forget(disk.path);
    return false;
  });
}
