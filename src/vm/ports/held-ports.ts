// Host ports that this program listens on until the process that serves them has inherited them.

import { type ListeningPort, listenOnPort } from "../../network/listening-port.js";
import type { HostPort } from "../../storage/port-store.js";

export class HeldPorts {
  readonly #ports = new Map<string, ListeningPort>();

  /**
   * Listens on a port, unless it is held already.
   *
   * @param port Its `hostPort` may be 0: a free one, another one each time.
   * @returns The one that is held.
   * @throws {PORT_IN_USE} {NETWORK_FAILED}
   */
  async hold({ hostAddress, hostPort }: HostPort): Promise<ListeningPort> {
    const held = this.#ports.get(nameOf({ hostAddress, hostPort }));
    if (held !== undefined) return held;
    const port = await listenOnPort(hostAddress, hostPort);
    this.#ports.set(nameOf(port), port);
    return port;
  }

  /** Closes this program's copies; what has been inherited stays. Closing twice is fine. */
  close(): void {
    for (const port of this.#ports.values()) port.close();
    this.#ports.clear();
  }
}

function nameOf({ hostAddress, hostPort }: HostPort): string {
  return `${hostAddress}:${hostPort}`;
}
