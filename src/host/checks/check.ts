// What a check of the host is: one question, answered by trying, with the remedy beside the answer.

import type { Deadline } from "../../base/deadline.js";
import type { Architecture } from "../architecture.js";
import type { HostPaths } from "../paths.js";

/**
 * What of SmolVM a check's subject is needed for.
 * `run`: any microVM. `network`: the default, rootless network. `image-build`: the default image.
 * `isolation`: hardware virtualization. `limits`: cgroups. `tap-network`: network with root.
 */
export type HostNeed = "run" | "network" | "image-build" | "isolation" | "limits" | "tap-network";

/** Outcome of trying to boot a guest with an accelerator. */
export interface AcceleratorTrial {
  readonly usable: boolean;
  /** Why, in words for a person. */
  readonly reason: string;
}

/** Boots a guest with hardware acceleration to see whether it really works; supplied by who knows the backends. */
export type AcceleratorTrialFunction = (deadline: Deadline) => Promise<AcceleratorTrial>;

/** What a check may use. */
export interface CheckContext {
  readonly paths: HostPaths;
  readonly platform: NodeJS.Platform;
  readonly architecture: Architecture;
  readonly isRoot: boolean;
  /** Bound of the single check. */
  readonly deadline: Deadline;
  readonly tryAccelerator?: AcceleratorTrialFunction | undefined;
  /** The same with Firecracker. */
  readonly tryFirecracker?: AcceleratorTrialFunction | undefined;
}

/** `warn`: works with a loss that `found` names. */
export type CheckStatus = "ok" | "warn" | "fail";

/** What a check found. */
export interface CheckResult {
  readonly status: CheckStatus;
  /** What is there, e.g. `QEMU 7.2.22, accelerators tcg and kvm`. */
  readonly found: string;
  /** What to do about it; there whenever the status is not `ok` and something can be done. */
  readonly remedy?: string;
}

/** One question about the host. */
export interface HostCheck {
  readonly id: string;
  readonly title: string;
  readonly requiredFor: HostNeed;
  /** Answers within the context's deadline; may throw, which counts as `fail`. */
  run(context: CheckContext): Promise<CheckResult>;
}

/** The remedy for everything that comes from a package. */
export const SETUP_REMEDY = "Run `smolvm setup`; it installs what is missing or prints the commands.";
