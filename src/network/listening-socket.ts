// A listening unix socket for a child to inherit. It gets its name when this program has closed its own copy: so whoever
// connects reaches the child, even if that has not run at all yet, and what is sent waits in the socket.

import { once } from "node:events";
import { renameSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { SmolVMError } from "../errors/smolvm-error.js";

/** A unix socket that somebody else is to accept from. */
export interface ListeningSocket {
  /** Its descriptor, for a child's `stdio`. */
  readonly fd: number;
  /** Names the socket and closes this program's copy, after the child has been started. Does nothing the second time. */
  handOver(): void;
}

/**
 * Listens for one client at a time.
 *
 * @param path The socket's name once it is handed over.
 * @param temporaryPath A name beside `path`, not longer; nothing has it afterwards.
 * @throws {NETWORK_FAILED} when the socket cannot be made.
 */
export async function listenOn(path: string, temporaryPath: string): Promise<ListeningSocket> {
  // Nobody knows the name that it has while this program could accept.
  const server = createServer((connection) => connection.destroy());
  try {
    server.listen({ path: temporaryPath, exclusive: true, backlog: 1 });
    await once(server, "listening");
    let isOurs = true;
    return {
      fd: descriptorOf(server),
      handOver: () => {
        if (!isOurs) return;
        isOurs = false;
        // Node.js removes, on close, the name that it has bound; so the socket gets another one. Both in one turn of the
        // event loop, which accepts nothing in between.
        renameSync(temporaryPath, path);
        server.close();
      },
    };
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
export function descriptorOf(server: Server): number {
  const fd = (server as { readonly _handle?: { readonly fd?: number } })._handle?.fd;
  if (typeof fd === "number" && fd >= 0) return fd;
  throw new SmolVMError("INTERNAL", "A listening socket has no descriptor");
}
