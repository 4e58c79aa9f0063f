// The MTU of a guest's interface: a template is frozen with it, so that its clones need not change it.

import { userMtu } from "../network/network-plan.js";
import { TAP_MTU_BYTES } from "../network/tap/addresses.js";
import type { VmSpec } from "./vm-spec.js";

/** In bytes; 0 without a network. */
export function guestMtu({ networkMode, rateLimitMbps }: Pick<VmSpec, "networkMode" | "rateLimitMbps">): number {
  if (networkMode === "none") return 0;
  return networkMode === "tap" ? TAP_MTU_BYTES : userMtu(rateLimitMbps ?? undefined);
}
