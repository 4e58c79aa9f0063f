// What a user network's failed start means, from what its programs said.

import { SmolVMError } from "../errors/smolvm-error.js";

/** netguard's exit status where it needs a user namespace and may not make one (agent/cmd/netguard). */
const NOT_PERMITTED_STATUS = 3;
/** What to do where names cannot be allowed in mode "user". */
export const NO_NAMESPACES_HINT =
  'Permit them (sysctl kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns), allow addresses instead of names, or use network mode "tap".';

/** How the start failed. */
export interface PasstFailure {
  readonly argv: readonly string[];
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | null;
  /** Tail of what netguard and passt wrote. */
  readonly log: string;
}

/** The error for a user network that ended before it was ready. */
export function passtFailure(failure: PasstFailure): SmolVMError {
  const details = { ...failure };
  if (/cannot run passt: .*(not found|no such file)/i.test(failure.log)) {
    return new SmolVMError("HOST_UNSUPPORTED", 'Cannot start the user network: "passt" is not installed', {
      details: { ...details, program: "passt" },
      hint: 'Install it (Debian, Ubuntu: `apt-get install passt`), or use network: "none".',
    });
  }
  if (failure.exitCode === NOT_PERMITTED_STATUS) {
    return new SmolVMError("UNSUPPORTED", "Cannot allow names: this host permits no user namespaces", {
      details,
      hint: NO_NAMESPACES_HINT,
    });
  }
  const last = failure.log.trimEnd().split("\n").pop() ?? "";
  return new SmolVMError("NETWORK_FAILED", `Cannot start the user network: ${last}`, {
    details,
    hint: /routable interface|external interface/i.test(failure.log)
      ? 'The host has no IPv4 default route, which passt needs. Connect it, or use network: "tap" (root) or "none".'
      : undefined,
  });
}
