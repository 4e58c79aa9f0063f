// An operation that the agent answered with an error number.

import { SmolVMError } from "../errors/smolvm-error.js";

/** Code `INTERNAL`: whoever calls an operation knows which errors are its caller's, and says them in its own words. */
export class GuestRefusal extends SmolVMError {
  override readonly name = "GuestRefusal";
  /** Name of the error number, e.g. `"ENOENT"`, as the guest said it. */
  readonly errno: string;
  readonly operation: string;
  /** The guest's own words. */
  readonly guestMessage: string;

  constructor(operation: string, errno: string, guestMessage: string) {
    super("INTERNAL", `The guest agent refused "${operation}": ${guestMessage} (${errno})`, { details: { errno } });
    this.errno = errno;
    this.operation = operation;
    this.guestMessage = guestMessage;
  }
}
