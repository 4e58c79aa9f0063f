// What the TAP network mode needs of an ordinary user's program, in words: no rule for sudo, only what the mode uses.

import { hasCapability } from "./capabilities.js";

/** Where the addresses of TAP devices are given out: one for the host, so one user has it. */
export const NETWORK_DIRECTORY = "/run/smolvm-net";

/**
 * @returns Lines for a person; empty where this program has what it takes. Nothing here is asked for by the other modes.
 */
export function tapNeeds(
  hasRights = hasCapability("CAP_NET_ADMIN") && hasCapability("CAP_NET_BIND_SERVICE"),
): string[] {
  if (process.platform !== "linux" || hasRights) return [];
  return [
    'Network mode "tap" is optional. It makes TAP devices and nftables rules, and serves DNS beside them, so a program',
    "that uses it needs CAP_NET_ADMIN and CAP_NET_BIND_SERVICE, and nothing else of root's rights.",
    "- as a service: AmbientCapabilities=CAP_NET_ADMIN CAP_NET_BIND_SERVICE and RuntimeDirectory=smolvm-net in its systemd unit",
    `- by hand: sudo install -d -m 0700 -o "$USER" ${NETWORK_DIRECTORY}, then start it with`,
    '  sudo setpriv --reuid "$USER" --regid "$(id -g)" --init-groups --inh-caps +net_admin,+net_bind_service \\',
    "    --ambient-caps +net_admin,+net_bind_service -- PROGRAM",
    "- /dev/net/tun must be open to it (mode 0666 on most systems)",
    "Whoever has CAP_NET_ADMIN can change all of this host's network. The default network mode needs none of this.",
  ];
}
