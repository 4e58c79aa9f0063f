// Booting a guest: verified files, and a second attempt where the first one failed by the guest's fault.

import { existsSync } from "node:fs";
import { join, sep } from "node:path";
import { Deadline, shareLimit, type WaitOptions } from "../base/deadline.js";
import type { ProgressListener } from "../base/progress.js";
import { isSmolVMError, SmolVMError } from "../errors/smolvm-error.js";
import { throwIfAborted, waitError } from "../errors/wait-errors.js";
import { CAPTURES_DIRECTORY } from "./capture-spec.js";
import type { VmContext } from "./context.js";
import { filesOfDisk } from "./is-booted-from.js";
import type { HeldPorts } from "./ports/held-ports.js";
import { releaseRuntime } from "./release-runtime.js";
import type { VmSpec } from "./vm-spec.js";

/**
 * Boots before giving up on a guest: under QEMU 7.2's emulation about one boot in 200 panics where the kernel patches
 * its clock code with two CPUs running ("Oops: int3" in sched_clock_*), always before the agent starts.
 */
export const BOOT_ATTEMPTS = 2;

/** Options of a start. */
export interface BootOptions extends WaitOptions {
  /** Hears that a template is being made: the first start of a configuration takes some seconds. */
  readonly onProgress?: ProgressListener | undefined;
}

/** A VM to bring up. */
export interface BootableVm {
  readonly vmId: string;
  readonly spec: VmSpec;
  /** Host ports of its own that are listened on already. */
  readonly held?: HeldPorts | undefined;
}

/** Waits for its turn among the starts of this program, within the caller's bounds. */
export function inTurn<T>(
  ctx: VmContext,
  vmId: string,
  options: WaitOptions,
  start: (rest: WaitOptions) => Promise<T>,
): Promise<T> {
  const rest = shareLimit(options);
  const deadline = Deadline.from(options, Number.POSITIVE_INFINITY);
  const late = (): never => {
    throw waitError(`Start of VM "${vmId}"`, deadline);
  };
  return ctx.starts.run(deadline, late, () => start(rest()));
}

/** Boots until one succeeds, {@link BOOT_ATTEMPTS} times. Throws what the last one threw. */
export async function attemptBoot<T>(
  ctx: VmContext,
  { vmId, spec }: BootableVm,
  options: WaitOptions,
  attempt: (deadline: Deadline) => Promise<T>,
): Promise<T> {
  const whole = Deadline.from(options, spec.bootTimeoutMs * BOOT_ATTEMPTS);
  for (let count = 1; ; count++) {
    throwIfAborted(`Start of VM "${vmId}"`, options.signal);
    try {
      return await attempt(whole.atMost(spec.bootTimeoutMs));
    } catch (error) {
      if (!isGuestsFault(error) || count === BOOT_ATTEMPTS || whole.hasExpired) throw error;
      await releaseRuntime(ctx, vmId);
    }
  }
}

/** Verifies all that a boot reads. @throws {IMAGE_FAILED} */
export async function verifyBootFiles(ctx: VmContext, spec: VmSpec, options: WaitOptions): Promise<void> {
  await verifyFiles(ctx, [spec.kernelPath, spec.initrdPath, ...filesOfDisk(spec)], options);
}

/** Verifies what a disk stands on, or a shared disk itself. @throws {IMAGE_FAILED} */
export async function verifyDisk(ctx: VmContext, spec: VmSpec, options: WaitOptions): Promise<void> {
  await verifyFiles(ctx, filesOfDisk(spec), options);
}

async function verifyFiles(ctx: VmContext, paths: readonly string[], options: WaitOptions): Promise<void> {
  // Layers in the state directory are of captures, so the user has never given them; the others are templates'.
  const isOwn = (path: string) => path.startsWith(join(ctx.paths.stateDir, CAPTURES_DIRECTORY) + sep);
  const gone = paths.find((path) => isOwn(path) && !existsSync(path));
  if (gone !== undefined) {
    throw new SmolVMError("IMAGE_FAILED", `Cannot use "${gone}": it was removed`, { details: { path: gone } });
  }
  const others = paths.filter((path) => !isOwn(path));
  await ctx.images.verify(others, options);
}

/** A guest that stayed silent, or died. */
export function isGuestsFault(error: unknown): error is SmolVMError {
  return isSmolVMError(error, "BOOT_TIMEOUT") || isSmolVMError(error, "BOOT_FAILED");
}
