// The errors of a transfer that are nobody's file error: a tree that breaks the rules.

import { SmolVMError } from "../../errors/smolvm-error.js";

/** @param what In words, what is wrong with the tree that the guest sent. */
export function brokenTree(what: string): SmolVMError {
  return new SmolVMError("TRANSFER_FAILED", `Cannot take the tree that the guest sent: ${what}`, {
    details: { violation: what },
  });
}

/** Bytes that are held as characters, for messages and results. */
export function readable(bytes: string): string {
  return Buffer.from(bytes, "latin1").toString("utf8");
}
