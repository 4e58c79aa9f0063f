// A TCP port of the host for a child to listen on: bound before the child is started, so that nobody else can get it.

import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { SmolVMError } from "../errors/smolvm-error.js";
import { descriptorOf } from "./listening-socket.js";

/** A port that somebody else is to accept from. */
export interface ListeningPort {
  readonly hostAddress: string;
  /** Which one; never 0. */
  readonly hostPort: number;
  /** Its descriptor, for a child's `stdio`. */
  readonly fd: number;
  /** Closes this program's copy; what a child has inherited stays. */
  close(): void;
}

/**
 * Listens on a port. Until the copy of a child takes over, whoever connects is sent away at once.
 *
 * @param hostPort 0: a free one of the kernel's choosing.
 * @throws {PORT_IN_USE} when it is taken.
 * @throws {NETWORK_FAILED} with the errno as `details.reason`, e.g. `EADDRNOTAVAIL` for an address of another host.
 */
export async function listenOnPort(hostAddress: string, hostPort: number): Promise<ListeningPort> {
  const server = createServer((connection) => connection.resetAndDestroy());
  try {
    server.listen({ host: hostAddress, port: hostPort, exclusive: true });
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    return { hostAddress, hostPort: port, fd: descriptorOf(server), close: () => void server.close() };
  } catch (error) {
    server.close();
    if (error instanceof SmolVMError) throw error;
    throw cannotListen({ hostAddress, hostPort }, (error as NodeJS.ErrnoException).code ?? String(error), error);
  }
}

/** The error for a port that could not be listened on. @param reason Name of an errno. */
export function cannotListen(
  port: { readonly hostAddress: string; readonly hostPort: number },
  reason: string,
  cause?: unknown,
): SmolVMError {
  const { hostAddress, hostPort } = port;
  const isTaken = reason === "EADDRINUSE";
  const why = isTaken ? "something listens on it" : reason;
  return new SmolVMError(
    isTaken ? "PORT_IN_USE" : "NETWORK_FAILED",
    `Cannot forward ${hostAddress}:${hostPort}: ${why}`,
    {
      details: { hostAddress, hostPort, reason },
      cause,
      hint: HINTS[reason],
    },
  );
}

const HINTS: Readonly<Record<string, string>> = {
  EADDRNOTAVAIL: "Choose an address that this host has.",
  EACCES: "Choose a host port above 1023.",
};
