// Whether a file or directory of the cache is part of some VM.

import { sep } from "node:path";
import type { VmContext } from "./context.js";
import { decodeSpec } from "./vm-spec.js";

/** @param path A file that a VM boots from, or a directory around it. */
export function isBootedFrom(ctx: VmContext, path: string): boolean {
  return ctx.store.vms.list().some((row) => {
    const { kernelPath, initrdPath, disk } = decodeSpec(row.id, row.spec);
    const files = [kernelPath, initrdPath, disk.mode === "isolated" ? disk.basePath : disk.path];
    return files.some((file) => file === path || file.startsWith(path + sep));
  });
}
