// What a user network's failed start means, from what its programs said.

import { createServer } from "node:net";
import { SmolVMError } from "../errors/smolvm-error.js";
import type { PortForward } from "./network-plan.js";

/** How the start failed. */
export interface PasstFailure {
  readonly argv: readonly string[];
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | null;
  /** Tail of what netguard and passt wrote. */
  readonly log: string;
}

/** The error for a user network that ended before it was ready. */
export async function passtFailure(failure: PasstFailure, ports: readonly PortForward[]): Promise<SmolVMError> {
  if (/cannot run passt: .*(not found|no such file)/i.test(failure.log)) {
    return new SmolVMError("HOST_UNSUPPORTED", 'Cannot start the user network: "passt" is not installed', {
      details: { ...failure, program: "passt" },
      hint: 'Install it (Debian, Ubuntu: `apt-get install passt`), or use network: "none".',
    });
  }
  if (/failed to bind/i.test(failure.log)) return bindFailure(failure, ports);
  const last = failure.log.trimEnd().split("\n").pop() ?? "";
  return new SmolVMError("NETWORK_FAILED", `Cannot start the user network: ${last}`, {
    details: { ...failure },
    hint: /routable interface|external interface/i.test(failure.log)
      ? 'The host has no IPv4 default route, which passt needs. Connect it, or use network: "none".'
      : undefined,
  });
}

/** passt of 2023 does not say why a port could not be bound, so it is tried once more to learn the reason. */
async function bindFailure(failure: PasstFailure, ports: readonly PortForward[]): Promise<SmolVMError> {
  for (const port of ports) {
    const reason = await bindError(port);
    if (reason === undefined) continue;
    const where = `${port.hostAddress}:${port.hostPort}`;
    if (reason === "EADDRINUSE") {
      return new SmolVMError("PORT_IN_USE", `Cannot forward host port ${where}: it is in use`, {
        details: { ...failure, ...port },
      });
    }
    return new SmolVMError("NETWORK_FAILED", `Cannot forward host port ${where}: ${reason}`, {
      details: { ...failure, ...port, reason },
      hint: reason === "EACCES" ? "Choose a host port above 1023." : "Choose an address that this host has.",
    });
  }
  const [first] = ports;
  if (first !== undefined && first.hostPort < 1024) {
    return new SmolVMError("NETWORK_FAILED", `Cannot forward host port ${first.hostPort}: passt may not bind it`, {
      details: { ...failure, ...first, reason: "EACCES" },
      hint: "Choose a host port above 1023.",
    });
  }
  return new SmolVMError("PORT_IN_USE", "Cannot forward a host port: it was in use a moment ago", {
    details: { ...failure, ports },
  });
}

function bindError(port: PortForward): Promise<string | undefined> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    server.listen({ host: port.hostAddress, port: port.hostPort, exclusive: true }, () => {
      server.close(() => resolve(undefined));
    });
  });
}
