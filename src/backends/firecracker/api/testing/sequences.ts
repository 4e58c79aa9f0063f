// Requests one after the other, and for each whether Firecracker takes it. The double and the program have to agree.

import type { ApiRequest } from "../requests.js";
import { asSent, type WireRequest } from "./send.js";

export type Step =
  | { readonly request: WireRequest; readonly isTaken: boolean }
  /** The VMM has ended by itself. */
  | "has-ended"
  /** What follows is for a new VMM, beside the one before. */
  | "second-vmm";

export function taken(request: ApiRequest<unknown>): Step {
  return { request: asSent(request), isTaken: true };
}

export function refused(request: ApiRequest<unknown>): Step {
  return { request: asSent(request), isTaken: false };
}
