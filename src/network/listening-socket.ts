// A listening unix socket for a child to inherit: a client can connect before the child has run at all, and what it
// sends waits in the socket.

import { once } from "node:events";
import { renameSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { SmolVMError } from "../errors/smolvm-error.js";

/** A unix socket that somebody else is to accept from. */
export interface ListeningSocket {
  /** Its descriptor, for a child's `stdio`. */
  readonly fd: number;
  /** Closes this program's copy. The socket and what has connected to it stay. */
  close(): void;
}

/**
 * Listens on `path` for one client.
 *
 * @param temporaryPath A name beside `path`, not longer; nothing has it afterwards.
 * @throws {NETWORK_FAILED} when the socket cannot be made.
 */
export async function listenOn(path: string, temporaryPath: string): Promise<ListeningSocket> {
  // Nobody knows the path while this program could accept; `close` comes before anybody is told.
  const server = createServer((connection) => connection.destroy());
  try {
    server.listen({ path: temporaryPath, exclusive: true, backlog: 1 });
    await once(server, "listening");
    // Node.js removes, on close, the name that it has bound; so the socket gets another one.
    renameSync(temporaryPath, path);
    return { fd: descriptorOf(server), close: () => server.close() };
  } catch (error) {
    server.close();
    if (error instanceof SmolVMError) throw error;
    const reason = (error as NodeJS.ErrnoException).code;
    throw new SmolVMError("NETWORK_FAILED", `Cannot listen on unix socket "${path}": ${reason}`, {
      details: { socketPath: path, reason },
      cause: error,
    });
  }
}

/** Node.js has no public name for it (20 to 24 have this one), but inherits any descriptor to a child. */
function descriptorOf(server: Server): number {
  const fd = (server as { readonly _handle?: { readonly fd?: number } })._handle?.fd;
  if (typeof fd === "number" && fd >= 0) return fd;
  throw new SmolVMError("INTERNAL", "A listening socket has no descriptor");
}
