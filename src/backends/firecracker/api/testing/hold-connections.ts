// Takes all the connections that a Firecracker has.

import { connect, type Socket } from "node:net";
import { onTestFinished } from "vitest";

/** A request whose answer shows that its connection counts. */
const REQUEST = "GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n";

/** They are let go of with the test. */
export async function holdConnections(socketPath: string): Promise<readonly Socket[]> {
  const held: Socket[] = [];
  onTestFinished(() => {
    for (const socket of held) socket.destroy();
  });
  // Turned away twice: at the first time, one that was closed before may still have been counted.
  for (let turnedAway = 0; turnedAway < 2; ) {
    const socket = await hold(socketPath);
    if (socket === undefined) turnedAway += 1;
    else held.push(socket);
  }
  return held;
}

/** @returns `undefined` when it was turned away. */
function hold(socketPath: string): Promise<Socket | undefined> {
  const socket = connect(socketPath);
  return new Promise((resolve) => {
    socket.on("error", () => {}); // "close" follows.
    socket.on("close", () => resolve(undefined));
    socket.on("data", (data) => {
      if (data.toString().startsWith("HTTP/1.1 200")) resolve(socket);
      else socket.destroy();
    });
    socket.write(REQUEST);
  });
}
