// Firecracker's part of `smolvm setup`: offered where KVM can be opened, installed only when asked for.

import type { Deadline } from "../../base/deadline.js";
import type { ProgressListener } from "../../base/progress.js";
import { isSmolVMError } from "../../errors/smolvm-error.js";
import { lookAtKvm } from "../kvm-device.js";
import { type FoundFirecracker, type SearchOptions, searchFirecracker } from "./find-firecracker.js";
import { type InstallChoice, type InstallPlan, installFirecracker, planInstall } from "./install-firecracker.js";

/** What set-up found or did about Firecracker. */
export type FirecrackerSetup =
  /** One that can be used was there (`ready`), or is now (`installed`). */
  | { readonly status: "ready" | "installed"; readonly version: string; readonly path: string }
  /** It can be installed, and was not asked for, or this is a dry run. */
  | ({ readonly status: "offered" } & InstallPlan)
  /** There is none, and it cannot be installed here, or would be of no use. */
  | { readonly status: "unavailable"; readonly reason: string };

/** How to go about it. */
export interface FirecrackerSetupOptions extends InstallChoice, Pick<SearchOptions, "findOnPath"> {
  /** Whether it was asked for. Then it is installed, or the reason why not is thrown. */
  readonly isWanted: boolean;
  readonly dryRun: boolean;
  readonly deadline: Deadline;
  readonly onProgress?: ProgressListener | undefined;
  /** Default {@link lookAtKvm}. */
  readonly lookAtKvm?: typeof lookAtKvm | undefined;
}

/**
 * @throws what {@link installFirecracker} throws, if it was asked for.
 * @throws {ABORTED} {TIMEOUT}
 */
export async function setUpFirecracker(options: FirecrackerSetupOptions): Promise<FirecrackerSetup> {
  const { found } = await searchFirecracker(options.deadline, options);
  if (found !== undefined) return { status: "ready", ...facts(found) };
  if (!options.isWanted) return offer(options);
  const plan = planInstall(options);
  if (options.dryRun) return { status: "offered", ...plan };
  const { remainingMs: timeoutMs, signal } = options.deadline;
  return { status: "installed", ...facts(await installFirecracker({ ...options, timeoutMs, signal })) };
}

function facts({ firecracker }: FoundFirecracker): { readonly version: string; readonly path: string } {
  return { version: firecracker.version.text, path: firecracker.path };
}

/** Without KVM it is of no use, and nobody is bothered with it. */
async function offer(options: FirecrackerSetupOptions): Promise<FirecrackerSetup> {
  if (process.platform !== "linux") return { status: "unavailable", reason: "Firecracker exists on Linux only." };
  const kvm = await (options.lookAtKvm ?? lookAtKvm)();
  if (!kvm.opens) return { status: "unavailable", reason: `${kvm.found}. ${kvm.remedy}` };
  try {
    return { status: "offered", ...planInstall(options) };
  } catch (error) {
    if (isSmolVMError(error, "HOST_UNSUPPORTED")) return { status: "unavailable", reason: error.message };
    throw error;
  }
}
