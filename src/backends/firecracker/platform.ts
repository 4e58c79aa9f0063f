// What differs between the processor architectures that Firecracker runs on, as data.

import type { Architecture } from "../../host/architecture.js";

/** A magic number in a file. */
export interface Magic {
  readonly offset: number;
  readonly bytes: Buffer;
}

export interface Platform {
  /** Words of the kernel command line that only this architecture has. */
  readonly kernelArguments: readonly string[];
  /** What kind of kernel file it boots, in words. */
  readonly kernelFormat: string;
  readonly kernelMagic: Magic;
  /** Whether there is a keyboard on which Ctrl-Alt-Del can be pressed. */
  readonly hasKeyboard: boolean;
}

export const PLATFORMS: Readonly<Record<Architecture, Platform>> = {
  x86_64: {
    kernelArguments: [
      // Its only way to end itself is the reset line of the keyboard controller (docs/api_requests/actions.md).
      "reboot=k",
      // Of that controller there is little more than that line and three keys: looking for the rest takes time.
      ...["i8042.noaux", "i8042.nomux", "i8042.dumbkbd"],
    ],
    // Entered at its PVH entry point, or else at its 64-bit one (docs/pvh.md).
    kernelFormat: "an uncompressed ELF file (vmlinux)",
    kernelMagic: { offset: 0, bytes: Buffer.from("\x7fELF", "latin1") },
    hasKeyboard: true,
  },
  aarch64: {
    // Ends itself by PSCI. Firecracker adds `earlycon` by itself.
    kernelArguments: [],
    kernelFormat: "an uncompressed arm64 Image (PE)",
    kernelMagic: { offset: 56, bytes: Buffer.from("ARM\x64", "latin1") },
    hasKeyboard: false,
  },
};
