// Captures as they come and go: found, told of, removed when nothing stands on them.

import { rm } from "node:fs/promises";
import { fileError } from "../errors/file-error.js";
import { invalidConfig } from "../errors/invalid-config.js";
import { SmolVMError } from "../errors/smolvm-error.js";
import { isAlive } from "../host/process-identity.js";
import type { CaptureRow } from "../storage/capture-store.js";
import { decodeCapture } from "./capture-spec.js";
import type { VmContext } from "./context.js";
import { isUsedBy } from "./is-booted-from.js";

/** Ids of captures and names of snapshots: nothing that could be a path. */
export const CAPTURE_ID_PATTERN = /^[a-z0-9]([a-z0-9_-]{0,62}[a-z0-9])?$/;
export const CAPTURE_ID_EXPECTED = "1 to 64 of a-z, 0-9, _ and -, beginning and ending with a letter or digit";

/**
 * @param field What the caller calls the id, for the error.
 * @throws {INVALID_CONFIG} for what cannot be an id.
 * @throws {SNAPSHOT_NOT_FOUND} when there is none of this kind, or it is not complete.
 */
export function findCapture(
  ctx: VmContext,
  id: string,
  kind: "snapshot" | "checkpoint",
  field = "snapshot",
): CaptureRow {
  checkCaptureId(id, field);
  const row = ctx.store.captures.find(id);
  if (row?.kind === kind && row.isComplete) return row;
  throw new SmolVMError("SNAPSHOT_NOT_FOUND", `Cannot find ${kind} "${id}"`, { details: { [field]: id } });
}

/** @throws {INVALID_CONFIG} */
export function checkCaptureId(id: unknown, field: string): void {
  if (typeof id === "string" && CAPTURE_ID_PATTERN.test(id)) return;
  throw invalidConfig({ field, value: id, expected: CAPTURE_ID_EXPECTED });
}

/** Whether a VM, another capture or a kept disk needs something of it. */
export function isStoodOn(ctx: VmContext, row: CaptureRow): boolean {
  return isUsedBy(ctx.store, decodeCapture(row).directory, row.id);
}

/** Removes its files, then its record. Nobody may stand on it. @throws {STORAGE_FAILED} the record stays then. */
export async function removeCapture(ctx: VmContext, row: CaptureRow): Promise<void> {
  const { directory } = decodeCapture(row);
  await rm(directory, { recursive: true, force: true }).catch((error: unknown) => {
    throw fileError(`Delete capture "${row.id}"`, directory, error);
  });
  ctx.store.captures.remove(row.id);
}

/** What a sweep did, by capture. */
export interface CaptureSweep {
  readonly removed: readonly CaptureRow[];
  readonly failed: readonly { readonly row: CaptureRow; readonly error: unknown }[];
}

/**
 * Removes captures that were never finished, and bases that nothing stands on any more; those in the making by a
 * living process stay. Idempotent; safe to race.
 */
export async function sweepCaptures(ctx: VmContext): Promise<CaptureSweep> {
  const removed: CaptureRow[] = [];
  const failed: { row: CaptureRow; error: unknown }[] = [];
  // The newest first: what stands on another goes before it.
  for (const row of ctx.store.captures.list().reverse()) {
    if (row.maker !== undefined && (await isAlive(row.maker))) continue;
    try {
      if (claimForRemoval(ctx, row)) {
        await removeCapture(ctx, row);
        removed.push(row);
      }
    } catch (error) {
      failed.push({ row, error });
    }
  }
  return { removed, failed };
}

/** @returns Whether it has to go; nobody can come to stand on it then. */
function claimForRemoval(ctx: VmContext, row: CaptureRow): boolean {
  return ctx.store.transaction(() => {
    const now = ctx.store.captures.find(row.id);
    if (now === undefined) return false;
    if (now.isComplete) {
      ctx.store.captures.release(now.id); // Whoever held it is gone.
      if (now.kind !== "base" || isStoodOn(ctx, now)) return false;
    }
    ctx.store.captures.makeBase(now.id);
    return true;
  });
}
