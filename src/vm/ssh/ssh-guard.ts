// What a hostile SSH server can make ssh2 keep, and its bounds: ssh2 itself has none.

import type { Socket } from "node:net";
import type { Client } from "ssh2";
import { violation } from "../../guest/violation.js";

/** Most that waits for a server to read it, in bytes: what a lane writes, and answers to what the server asked for. */
const UNSENT_LIMIT_BYTES = 4 * 1024 * 1024;
/** Most questions that ssh2 has put to the server: for each list of host keys that comes, it asks for proof of them. */
const UNANSWERED_LIMIT = 16;

/** What ssh2 has no public name for. A flood in the tests shows whether it is still called so. */
interface ClientInside {
  readonly _callbacks?: readonly unknown[];
}

/** Ends the connection as soon as the server makes more pile up than any good one does. */
export function guardSsh(socket: Socket, client: Client): void {
  const inside = client as unknown as ClientInside;
  socket.on("data", () => {
    if (socket.writableLength > UNSENT_LIMIT_BYTES) socket.destroy(violation("it asks, and does not read the answers"));
    if ((inside._callbacks?.length ?? 0) > UNANSWERED_LIMIT) socket.destroy(violation("host keys without end"));
  });
}
