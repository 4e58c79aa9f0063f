// Does hardware virtualization work here? A device that opens is no proof: the verdict is a guest that boots.

import { constants } from "node:fs";
import { access, open } from "node:fs/promises";
import type { CheckContext, CheckResult, HostCheck } from "./check.js";

const KVM_DEVICE = "/dev/kvm";

/** KVM on Linux, Hypervisor.framework on macOS. */
export const acceleratorCheck: HostCheck = {
  id: "accelerator",
  title: "Hardware virtualization",
  requiredFor: "isolation",
  run: checkAccelerator,
};

async function checkAccelerator(context: CheckContext): Promise<CheckResult> {
  if (context.platform === "linux") {
    const refused = await openKvm();
    if (refused !== undefined) return refused;
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

/** What stands in the way of using KVM, or `undefined` when the device opens. */
async function openKvm(): Promise<CheckResult | undefined> {
  try {
    await access(KVM_DEVICE, constants.F_OK);
  } catch {
    return {
      status: "fail",
      found: `${KVM_DEVICE} does not exist`,
      remedy: "Switch virtualization on in the firmware, or nested virtualization in the hypervisor, and load kvm.",
    };
  }
  try {
    await (await open(KVM_DEVICE, "r+")).close();
    return undefined;
  } catch (error) {
    const reason = (error as NodeJS.ErrnoException).code ?? String(error);
    const denied = reason === "EACCES" || reason === "EPERM";
    return {
      status: "fail",
      found: `${KVM_DEVICE} does not open (${reason})`,
      remedy: denied
        ? "Add yourself to the kvm group (`sudo usermod -aG kvm $USER`) and log in again."
        : "Load the KVM module for this processor (`sudo modprobe kvm_intel` or `kvm_amd`).",
    };
  }
}
