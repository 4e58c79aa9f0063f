// Which accelerator a VM gets: the best that was seen to work, and what was seen is remembered.

import { access, constants } from "node:fs/promises";
import { cpus, release } from "node:os";
import type { Accelerator, Backend } from "../backends/backend.js";
import { Deadline, type WaitOptions } from "../base/deadline.js";
import type { ProgressListener } from "../base/progress.js";
import { SmolVMError } from "../errors/smolvm-error.js";
import { waitError } from "../errors/wait-errors.js";
import type { VmContext } from "./context.js";

const KVM_DEVICE = "/dev/kvm";
/** Longest trial of all accelerators together, in milliseconds. */
const TRIAL_TIMEOUT_MS = 30_000;
/** How it is remembered that an accelerator works. */
const WORKS = "works";
/** A failure is believed for a day: a busy moment may have caused it. `smolvm doctor` tries at once. */
const FAILURE_AGE_MS = 24 * 3_600_000;

/** What to choose for. */
export interface AcceleratorChoice {
  readonly backend: Backend;
  /** What the backend's `identify` said. */
  readonly vmm: string;
  readonly asked: "auto" | Accelerator;
  readonly boot: { readonly kernelPath: string; readonly initrdPath: string };
}

/**
 * @throws {HOST_UNSUPPORTED} when the one asked for, or none at all, works; details hold the reasons.
 */
export async function chooseAccelerator(
  ctx: VmContext,
  choice: AcceleratorChoice,
  options: WaitOptions & { readonly onProgress?: ProgressListener | undefined },
): Promise<Accelerator> {
  const { backend, asked } = choice;
  const candidates = asked === "auto" ? backend.features.accelerators : [asked];
  const reasons: Record<string, string> = {};
  for (const accelerator of candidates) {
    // Emulation needs nothing of the host, so there is nothing to try.
    if (accelerator === "tcg") return accelerator;
    const failure = await tryAccelerator(ctx, choice, accelerator, options);
    if (failure === undefined) return accelerator;
    reasons[accelerator] = failure;
  }
  throw unsupported(reasons);
}

function unsupported(reasons: Readonly<Record<string, string>>): SmolVMError {
  const text = Object.entries(reasons).map(([name, reason]) => `${name}: ${reason}`);
  return new SmolVMError("HOST_UNSUPPORTED", `No usable accelerator on this host: ${text.join("; ")}`, {
    details: { reasons },
    hint: 'Use accel "auto" or "tcg"; `smolvm doctor` tells more.',
  });
}

/**
 * Refuses what certainly cannot work, before anything is built or tried.
 *
 * @throws {HOST_UNSUPPORTED}
 */
export async function refuseAccelerator(backend: Backend, asked: "auto" | Accelerator): Promise<void> {
  const reason = asked === "auto" ? undefined : await plainReason(backend, asked);
  if (reason !== undefined) throw unsupported({ [asked]: reason });
}

/** Options of {@link tryAccelerator}. */
export interface TrialOptions extends WaitOptions {
  readonly onProgress?: ProgressListener | undefined;
  /** Try even if it was tried before. Default false. */
  readonly fresh?: boolean | undefined;
}

/**
 * Tries an accelerator, or recalls what came of it with the same VMM, guest kernel, host kernel and CPU.
 *
 * @returns `undefined` when it works, else the reason why not.
 */
export async function tryAccelerator(
  ctx: VmContext,
  { backend, vmm, boot }: Omit<AcceleratorChoice, "asked">,
  accelerator: Accelerator,
  options: TrialOptions,
): Promise<string | undefined> {
  const reason = await plainReason(backend, accelerator); // Cheap and may change at any time: looked at each time.
  if (reason !== undefined) return reason;
  const deadline = Deadline.from(options, TRIAL_TIMEOUT_MS);
  const name = ["accelerator", accelerator, vmm, boot.kernelPath, release(), cpus()[0]?.model].join("|");
  if (!options.fresh) {
    if (ctx.store.verdicts.find(name) === WORKS) return undefined;
    const failure = ctx.store.verdicts.find(name, FAILURE_AGE_MS);
    if (failure !== undefined) return failure;
  }
  options.onProgress?.({ step: `Trying accelerator ${accelerator}` });
  const failure = await backend.tryAccelerator(accelerator, boot, deadline);
  // A trial that the caller cut short says nothing.
  if (failure !== undefined && deadline.hasExpired) throw waitError(`Trial of accelerator ${accelerator}`, deadline);
  ctx.store.verdicts.save(name, failure ?? WORKS);
  return failure;
}

/** Why an accelerator cannot work, as far as that shows without trying it. */
async function plainReason(backend: Backend, accelerator: Accelerator): Promise<string | undefined> {
  if (!backend.features.accelerators.includes(accelerator)) return `${backend.name} does not have it on this platform`;
  if (accelerator === "kvm" && !(await canOpen(KVM_DEVICE))) return `${KVM_DEVICE} is not there or not accessible`;
  return undefined;
}

async function canOpen(path: string): Promise<boolean> {
  return access(path, constants.R_OK | constants.W_OK).then(
    () => true,
    () => false,
  );
}
