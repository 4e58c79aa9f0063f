// The host port that leads to a guest's SSH server: one forward more than those that the user has asked for, served like
// them.

import type { PortForward } from "../../storage/port-store.js";

/** Where a guest's SSH server is reached, and where it listens. */
export type SshForward = PortForward;

/** Port of the guest on which its SSH server listens. */
export const SSH_GUEST_PORT = 22;
