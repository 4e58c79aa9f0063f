// The kernel command line for Firecracker's machine. Firecracker appends what announces its devices.

import type { Platform } from "./platform.js";

/** For a machine with a disk. The user's arguments come last, so that they win. */
export function kernelCommandLine(platform: Platform, bootArgs: string): string {
  return join([...baseArguments(platform), "smolvm.root=/dev/vda", bootArgs]);
}

/** For a machine that only shows that the kernel and the agent start. */
export function probeCommandLine(platform: Platform): string {
  return join([...baseArguments(platform), "smolvm.probe=1"]);
}

function baseArguments({ kernelArguments }: Platform): readonly string[] {
  return [
    "console=ttyS0",
    "quiet",
    // A panic, like a power-off, resets the machine, which ends Firecracker: nothing is left hanging.
    ...["panic=-1", "smolvm.poweroff=restart"],
    "random.trust_cpu=on",
    ...kernelArguments,
  ];
}

function join(parts: readonly string[]): string {
  return parts.filter((part) => part !== "").join(" ");
}
