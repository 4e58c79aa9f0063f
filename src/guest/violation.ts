// The one error for a guest that does not keep to the protocol.

import { SmolVMError } from "../errors/smolvm-error.js";

/** @param what In words, what the guest did. */
export function violation(what: string): SmolVMError {
  return new SmolVMError("PROTOCOL_ERROR", `The guest broke the protocol: ${what}`, { details: { violation: what } });
}
