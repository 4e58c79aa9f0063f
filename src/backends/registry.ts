// Which backends there are. The only place outside a backend's own folder that knows them by name.

import { SmolVMError } from "../errors/smolvm-error.js";
import type { Backend } from "./backend.js";
import { QemuBackend } from "./qemu/qemu-backend.js";

/** Names that a caller can ask for. */
export const BACKEND_NAMES = ["auto", "qemu", "firecracker"] as const;

const qemu = new QemuBackend();

/**
 * The backend for a name; `"auto"` is the best one that this version has.
 *
 * @throws {UNSUPPORTED} for a backend that this version does not have.
 */
export function backendFor(name: string): Backend {
  if (name === "auto" || name === qemu.name) return qemu;
  throw new SmolVMError("UNSUPPORTED", `Backend "${name}" is not part of this version of SmolVM`, {
    details: { field: "backend", value: name },
    hint: 'Use backend "qemu" or "auto".',
  });
}
