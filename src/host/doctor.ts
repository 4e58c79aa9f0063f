// Runs every check of the host side by side and says what they mean together.

import { Deadline, type WaitOptions } from "../base/deadline.js";
import { within } from "../base/within.js";
import { abortedError } from "../errors/wait-errors.js";
import { hostArchitecture } from "./architecture.js";
import { acceleratorCheck } from "./checks/accelerator.js";
import { cgroupsCheck } from "./checks/cgroups.js";
import type { AcceleratorTrialFunction, CheckContext, CheckResult, HostCheck, HostNeed } from "./checks/check.js";
import { defaultRouteCheck } from "./checks/default-route.js";
import { diskSpaceCheck } from "./checks/disk-space.js";
import { imageToolsCheck } from "./checks/image-tools.js";
import { memoryCheck } from "./checks/memory.js";
import { namespacesCheck } from "./checks/namespaces.js";
import { nftCheck, passtCheck } from "./checks/network-tools.js";
import { nodeCheck } from "./checks/node.js";
import { evaluatePromises, type HostPromise, mainJobNeeds } from "./checks/promises.js";
import { qemuCheck, qemuSandboxCheck } from "./checks/qemu.js";
import { vmmUserCheck } from "./checks/vmm-user.js";
import { type HostPaths, hostPaths } from "./paths.js";

/** Every check, in the order in which they are shown. */
export const HOST_CHECKS: readonly HostCheck[] = [
  nodeCheck,
  qemuCheck,
  acceleratorCheck,
  qemuSandboxCheck,
  vmmUserCheck,
  passtCheck,
  defaultRouteCheck,
  nftCheck,
  imageToolsCheck,
  namespacesCheck,
  cgroupsCheck,
  diskSpaceCheck,
  memoryCheck,
];

/** One check with its result. */
export interface CheckReport extends CheckResult {
  readonly id: string;
  readonly title: string;
  readonly requiredFor: HostNeed;
  /** Whether the main job needs it here: a `fail` of such a check makes the report not ok. */
  readonly isRequired: boolean;
}

/** What the doctor found. */
export interface DoctorReport {
  /** True when `SmolVM.create()` with defaults can work here. */
  readonly ok: boolean;
  readonly checks: readonly CheckReport[];
  readonly promises: readonly HostPromise[];
}

/** Options of {@link runDoctor}. */
export interface DoctorOptions extends WaitOptions {
  readonly paths?: HostPaths;
  /** Boots a guest with hardware acceleration; without it the accelerator counts as untried. */
  readonly tryAccelerator?: AcceleratorTrialFunction | undefined;
  /** Whether the default image exists already, so that nothing need be built. Default false. */
  readonly hasDefaultImage?: boolean;
  /** Default {@link HOST_CHECKS}. */
  readonly checks?: readonly HostCheck[];
}

/** Bound of the whole report, in milliseconds; the trial boot is its longest part. */
const DEFAULT_TIMEOUT_MS = 30_000;

/**
 * Checks the host.
 *
 * @returns A report; a check that throws or takes too long is a `fail` in it.
 * @throws {ABORTED} when `signal` fires.
 */
export async function runDoctor(options: DoctorOptions = {}): Promise<DoctorReport> {
  const deadline = Deadline.from(options, DEFAULT_TIMEOUT_MS);
  const context: CheckContext = {
    paths: options.paths ?? hostPaths(),
    platform: process.platform,
    architecture: hostArchitecture(),
    isRoot: process.getuid?.() === 0,
    deadline,
    tryAccelerator: options.tryAccelerator,
  };
  const needs = mainJobNeeds(options.hasDefaultImage ?? false);
  const checks = await Promise.all(
    (options.checks ?? HOST_CHECKS).map(async (check): Promise<CheckReport> => {
      const { id, title, requiredFor } = check;
      const isRequired = needs.includes(requiredFor);
      return { id, title, requiredFor, isRequired, ...(await runCheck(check, context)) };
    }),
  );
  if (deadline.isAborted) throw abortedError("The check of this host", deadline.signal);
  return {
    ok: checks.every((check) => check.status !== "fail" || !check.isRequired),
    checks,
    promises: evaluatePromises(new Map(checks.map((check) => [check.id, check]))),
  };
}

/** Runs one check; whatever goes wrong becomes its result. */
async function runCheck(check: HostCheck, context: CheckContext): Promise<CheckResult> {
  const { deadline } = context;
  const noAnswer = (): CheckResult => ({ status: "fail", found: `no answer within ${deadline.limitMs} ms` });
  try {
    return await within(check.run(context), deadline, noAnswer);
  } catch (error) {
    return { status: "fail", found: `the check failed: ${error instanceof Error ? error.message : String(error)}` };
  }
}
