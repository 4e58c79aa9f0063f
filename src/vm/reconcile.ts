// Brings the whole state directory to agreement with the host. Idempotent; never touches what is not on record.

import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { SmolVMError } from "../errors/smolvm-error.js";
import { isAlive } from "../host/process-identity.js";
import { sweepCaptures } from "./captures.js";
import type { VmContext } from "./context.js";
import { VMS_DIRECTORY } from "./make-vm.js";
import { reconcileTaps } from "./reconcile-taps.js";
import { refreshVm } from "./refresh-vm.js";

/** What a reconcile did with one thing. */
export interface ReconcileItem {
  /** Id of the VM or capture, or path of a directory that is not on record. */
  readonly subject: string;
  readonly what: string;
}

/** What a reconcile did. */
export interface ReconcileReport {
  /** Brought to agreement. */
  readonly cleaned: readonly ReconcileItem[];
  /** Could not be; the next reconcile tries again. */
  readonly failed: readonly ReconcileItem[];
  /** Left alone, and why. */
  readonly skipped: readonly ReconcileItem[];
}

/** @param options `tables`: also remove the rules of TAP networks where no VM needs them. Default false. */
export async function reconcile(ctx: VmContext, options: { readonly tables?: boolean } = {}): Promise<ReconcileReport> {
  const report = { cleaned: [] as ReconcileItem[], failed: [] as ReconcileItem[], skipped: [] as ReconcileItem[] };
  for (const { id: subject } of ctx.store.vms.list()) {
    // Read anew: cleaning up after the ones before may have taken a while.
    const before = ctx.store.vms.find(subject);
    if (before === undefined) continue;
    try {
      if (before.move !== undefined && (await isAlive(before.move.mover))) {
        report.skipped.push({ subject, what: `process ${before.move.mover.pid} is ${before.move.transition} it` });
        continue;
      }
      const after = await refreshVm(ctx, before);
      if (after === before) continue;
      const was = before.move?.transition ?? before.status;
      const is = after?.status ?? "deleted";
      report.cleaned.push({ subject, what: was === is ? "had leftovers of an earlier run" : `was ${was}, is ${is}` });
    } catch (error) {
      report.failed.push({ subject, what: describeFailure(error) });
    }
  }
  try {
    const networks = await reconcileTaps(ctx, options);
    for (const subject of networks) report.cleaned.push({ subject, what: "had a TAP network and is gone" });
  } catch (error) {
    report.failed.push({ subject: "TAP networks", what: describeFailure(error) });
  }
  const { removed, failed } = await sweepCaptures(ctx);
  for (const { id: subject, isComplete } of removed) {
    report.cleaned.push({ subject, what: isComplete ? "nothing stood on it any more" : "was never finished" });
  }
  for (const { row, error } of failed) report.failed.push({ subject: row.id, what: describeFailure(error) });
  for (const path of await strayDirectories(ctx)) {
    report.skipped.push({ subject: path, what: "not on record; a VM of this name would replace it" });
  }
  return report;
}

function describeFailure(error: unknown): string {
  const code = error instanceof SmolVMError ? `${error.code}: ` : "";
  return `${code}${error instanceof Error ? error.message : error}`;
}

async function strayDirectories(ctx: VmContext): Promise<string[]> {
  const root = join(ctx.paths.stateDir, VMS_DIRECTORY);
  const names = await readdir(root).catch(() => [] as string[]);
  return names.filter((name) => ctx.store.vms.find(name) === undefined).map((name) => join(root, name));
}
