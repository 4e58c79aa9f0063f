// The host's doctor, with the one check that needs a guest to boot.

import { backendFor } from "../backends/registry.js";
import type { Deadline, WaitOptions } from "../base/deadline.js";
import { type DoctorReport, HOST_CHECKS, runDoctor } from "../host/doctor.js";
import { forwardCheck } from "../network/tap/forward-check.js";
import { tryAccelerator } from "./choose-accelerator.js";
import type { VmContext } from "./context.js";

export type { DoctorReport } from "../host/doctor.js";

/** Image whose kernel the trial boots. */
export const DEFAULT_IMAGE = "debian";

/**
 * Checks everything that SmolVM needs of this host. The accelerator is tried with the default image if that exists.
 *
 * @throws {ABORTED}
 */
export async function diagnoseHost(ctx: VmContext, options: WaitOptions = {}): Promise<DoctorReport> {
  const hasDefaultImage = (await ctx.images.list()).some(({ name, isCurrent }) => name === DEFAULT_IMAGE && isCurrent);
  return runDoctor({
    ...options,
    paths: ctx.paths,
    checks: HOST_CHECKS.flatMap((check) => (check.id === "nft" ? [check, forwardCheck] : [check])),
    hasDefaultImage,
    tryAccelerator: hasDefaultImage ? (deadline) => tryBest(ctx, deadline) : undefined,
  });
}

async function tryBest(ctx: VmContext, deadline: Deadline): Promise<{ usable: boolean; reason: string }> {
  const backend = backendFor("auto");
  const accelerator = backend.features.accelerators[0] ?? "tcg";
  const boot = await ctx.images.resolve(DEFAULT_IMAGE, { timeoutMs: deadline.remainingMs, signal: deadline.signal });
  const vmm = await backend.identify(deadline);
  const failure = await tryAccelerator(ctx, { backend, vmm, boot }, accelerator, {
    timeoutMs: deadline.remainingMs,
    signal: deadline.signal,
    fresh: true,
  });
  return failure === undefined
    ? { usable: true, reason: `a guest booted with ${accelerator}` }
    : { usable: false, reason: failure };
}
