// What a network needs of the host, looked at before anything is made.

import type { Deadline } from "../base/deadline.js";
import { SmolVMError } from "../errors/smolvm-error.js";
import { egressRules } from "../network/egress-policy.js";
import { NO_NAMESPACES_HINT } from "../network/passt-failure.js";
import { probeNames } from "../network/probe-names.js";
import { requireTapHost } from "../network/tap/require-tap-host.js";
import { helperPath } from "./helper-programs.js";
import type { AskedNetwork } from "./network-config.js";

/**
 * @throws {HOST_UNSUPPORTED} for TAP without root, `nft`, `ip` or the kernel's part.
 * @throws {UNSUPPORTED} for allowed names in mode `"user"` where the host permits no user namespaces.
 * @throws {TIMEOUT} {ABORTED}
 */
export async function requireNetwork(network: AskedNetwork, deadline: Deadline): Promise<void> {
  if (network.mode === "tap") {
    helperPath("tapguard");
    await requireTapHost(deadline, { hasRateLimit: network.rateLimitMbps !== undefined });
    return;
  }
  if (network.mode !== "user" || egressRules(network.egress).names.length === 0) return;
  const problem = await probeNames(helperPath("netguard"), deadline);
  if (problem === undefined) return;
  const text = `Cannot allow names in network mode "user": this host permits no user namespaces (${problem})`;
  throw new SmolVMError("UNSUPPORTED", text, {
    details: { field: "network.egress", reason: problem },
    hint: NO_NAMESPACES_HINT,
  });
}
