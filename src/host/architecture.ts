// The host's processor architecture in the words of those who need it.

import { arch } from "node:os";
import { SmolVMError } from "../errors/smolvm-error.js";

/** An architecture that guests run on; a guest has its host's. */
export type Architecture = "x86_64" | "aarch64";

/**
 * @throws {HOST_UNSUPPORTED} on any architecture but x86_64 and aarch64.
 */
export function hostArchitecture(): Architecture {
  const found = arch();
  if (found === "x64") return "x86_64";
  if (found === "arm64") return "aarch64";
  throw new SmolVMError("HOST_UNSUPPORTED", `Cannot run on architecture "${found}": x64 or arm64 is needed`, {
    details: { architecture: found },
  });
}

/** The QEMU program that emulates a whole machine of this architecture. */
export function qemuSystemProgram(architecture: Architecture): string {
  return `qemu-system-${architecture}`;
}
