// How the double opens files of the host: for real, so that it refuses what the program would.

import { closeSync, openSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { SOCKET_PATH_LIMIT_BYTES } from "./rules.js";

/**
 * Opens and closes a file.
 *
 * @param flags As node:fs has them; `a+` makes the file.
 * @returns Why it cannot be opened, or `undefined`.
 */
export function openFault(path: unknown, flags: "r" | "r+" | "a+"): string | undefined {
  try {
    closeSync(openSync(String(path), flags));
    return undefined;
  } catch (error) {
    return `"${path}" cannot be opened: ${(error as NodeJS.ErrnoException).code}`;
  }
}

/** Listens on a unix socket, as a vsock device does for the host; whoever connects is hung up on. */
export async function listenOn(path: string): Promise<Server | string> {
  if (Buffer.byteLength(path) > SOCKET_PATH_LIMIT_BYTES) return `"${path}" is too long for a socket`;
  const server = createServer((socket) => socket.destroy());
  return new Promise((resolve) => {
    server.once("error", (error: NodeJS.ErrnoException) => resolve(`"${path}" cannot be bound: ${error.code}`));
    server.listen(path, () => resolve(server));
  });
}
