// Whose rights does the VMM have? QEMU runs as the user who calls: a guest that breaks out of it has those rights, as
// far as QEMU's seccomp filter leaves them, and under root without its capabilities (backends/qemu/confine.ts).

import type { CheckContext, CheckResult, HostCheck } from "./check.js";

/** Whether this program, and with it QEMU, is root. */
export const vmmUserCheck: HostCheck = {
  id: "vmm-user",
  title: "User of the VMM",
  requiredFor: "isolation",
  run: checkVmmUser,
};

async function checkVmmUser({ isRoot }: CheckContext): Promise<CheckResult> {
  if (!isRoot) return { status: "ok", found: "QEMU runs as you, without root's rights" };
  return {
    status: "warn",
    found:
      "this program is root, so QEMU is root too, without capabilities for more than files, inside its seccomp filter",
    remedy: "Use SmolVM as an ordinary user.",
  };
}
