// Does hardware virtualization work here? A device that opens is no proof: the verdict is a guest that boots.

import { lookAtKvm } from "../kvm-device.js";
import type { CheckContext, CheckResult, HostCheck } from "./check.js";

/** KVM on Linux, Hypervisor.framework on macOS. */
export const acceleratorCheck: HostCheck = {
  id: "accelerator",
  title: "Hardware virtualization",
  requiredFor: "isolation",
  run: checkAccelerator,
};

async function checkAccelerator(context: CheckContext): Promise<CheckResult> {
  if (context.platform === "linux") {
    const kvm = await lookAtKvm();
    if (!kvm.opens) return { status: "fail", found: kvm.found, remedy: kvm.remedy };
  } else if (context.platform !== "darwin") {
    return { status: "fail", found: `none known on ${context.platform}` };
  }
  if (context.tryAccelerator === undefined) {
    return { status: "warn", found: "there is a device that opens, but no guest was booted with it" };
  }
  const trial = await context.tryAccelerator(context.deadline);
  if (trial.usable) return { status: "ok", found: trial.reason };
  return {
    status: "fail",
    found: `a trial boot failed: ${trial.reason}`,
    remedy: "Use a machine with working (nested) virtualization. Guests run by software emulation until then.",
  };
}
