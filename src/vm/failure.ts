// An error as it is remembered of a VM.

import { SmolVMError } from "../errors/smolvm-error.js";
import type { VmFailure } from "../storage/vm-store.js";

export function failureOf(error: unknown): VmFailure {
  const code = error instanceof SmolVMError ? error.code : "INTERNAL";
  return { code, message: error instanceof Error ? error.message : String(error) };
}
