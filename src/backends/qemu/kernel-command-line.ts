// The kernel command line for QEMU's microvm machine.

import type { Accelerator } from "../backend.js";
import { hostTscKhz } from "./host-tsc.js";

/** What the command line depends on. */
interface CommandLineInput {
  readonly accelerator: Accelerator;
  readonly bootArgs: string;
}

/** For a machine with a disk. The user's arguments come last, so that they win. */
export function kernelCommandLine(input: CommandLineInput): string {
  return join([...baseArguments(input.accelerator), "smolvm.root=/dev/vda", input.bootArgs]);
}

/** For a machine that only shows that the kernel and the agent start. */
export function probeCommandLine(accelerator: Accelerator): string {
  return join([...baseArguments(accelerator), "smolvm.probe=1"]);
}

function baseArguments(accelerator: Accelerator): string[] {
  const common = [
    "console=ttyS0",
    "quiet",
    // A panic, like a power-off, resets the machine, which ends QEMU: nothing is left hanging.
    ...["panic=-1", "reboot=t", "smolvm.poweroff=restart"],
    "random.trust_cpu=on",
  ];
  return accelerator === "tcg" ? [...common, ...tcgArguments()] : common;
}

function tcgArguments(): string[] {
  // Speculation does not exist in an emulator; its mitigations would only cost time. A busy host makes the emulated
  // clock look unsteady to its watchdog, and the kernel would give it up for a coarse one.
  const tuning = ["mitigations=off", "tsc=nowatchdog"];
  // Calibrating the clock against the timer chip fails in some percent of emulated boots, which then hang.
  const khz = hostTscKhz();
  return khz === undefined ? tuning : [...tuning, `tsc_early_khz=${khz}`];
}

function join(parts: readonly string[]): string {
  return parts.filter((part) => part !== "").join(" ");
}
