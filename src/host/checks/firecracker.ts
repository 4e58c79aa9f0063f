// Is there a Firecracker that the backend of that name can use, with its jailer, and does KVM let it? Nothing here is
// needed to run a VM: QEMU does that too.

import { type FoundFirecracker, INSTALL_REMEDY, searchFirecracker } from "../firecracker/find-firecracker.js";
import { SUPPORTED_VERSIONS } from "../firecracker/version.js";
import { type KvmDevice, lookAtKvm } from "../kvm-device.js";
import type { CheckContext, CheckResult, HostCheck } from "./check.js";

/** Firecracker and its jailer. */
export const firecrackerCheck: HostCheck = {
  id: "firecracker",
  title: "Firecracker",
  requiredFor: "isolation",
  run: checkFirecracker,
};

async function checkFirecracker(context: CheckContext): Promise<CheckResult> {
  const { platform, paths, architecture, deadline } = context;
  if (platform !== "linux") return { status: "warn", found: "Firecracker exists on Linux only; QEMU is used" };
  const [{ found, problems }, kvm] = await Promise.all([
    searchFirecracker(deadline, { paths, architecture }),
    lookAtKvm(),
  ]);
  if (found === undefined) return notUsable(problems, kvm);
  const facts = [describe(found), ...problems.map((problem) => `passed over: ${problem}`)];
  const result = await tryIt(found, kvm, context);
  return { ...result, found: [...facts, result.found].join("; ") };
}

/** What is missing first: without KVM it would be of no use. */
function notUsable(problems: readonly string[], kvm: KvmDevice): CheckResult {
  const lack = problems.length === 0 ? "neither on PATH nor installed" : problems.join("; ");
  const status = problems.length === 0 ? "warn" : "fail";
  if (kvm.opens) return { status, found: `${lack}; QEMU is used`, remedy: INSTALL_REMEDY };
  const found = `${lack}; without KVM it is of no use: ${kvm.found}`;
  return { status, found, remedy: `${kvm.remedy}\nThen: ${INSTALL_REMEDY}` };
}

/** Version, path and jailer, e.g. `v1.16.1 at /usr/bin/firecracker, with its jailer`. */
function describe({ firecracker, jailer, jailerProblem }: FoundFirecracker): string {
  const beside =
    jailer === undefined ? `no jailer (${jailerProblem})` : `jailer v${jailer.version.text} at ${jailer.path}`;
  return `v${firecracker.version.text} at ${firecracker.path}, ${beside}`;
}

async function tryIt(
  { jailer, firecracker }: FoundFirecracker,
  kvm: KvmDevice,
  { tryFirecracker, deadline }: CheckContext,
): Promise<CheckResult> {
  if (!kvm.opens) return { status: "warn", found: `of no use without KVM: ${kvm.found}`, remedy: kvm.remedy };
  if (tryFirecracker === undefined) {
    return { status: "warn", found: "/dev/kvm opens, but no guest was booted with it" };
  }
  const trial = await tryFirecracker(deadline);
  if (!trial.usable) {
    const remedy = "Use a machine with working (nested) virtualization. QEMU runs the guests until then.";
    return { status: "fail", found: `a trial boot failed: ${trial.reason}`, remedy };
  }
  if (jailer !== undefined) return { status: "ok", found: trial.reason };
  const remedy = `Put the jailer of v${firecracker.version.text} beside it, or leave ${SUPPORTED_VERSIONS} to \`smolvm setup --firecracker\`.`;
  return { status: "warn", found: `${trial.reason}; it runs with its own seccomp filter alone`, remedy };
}
