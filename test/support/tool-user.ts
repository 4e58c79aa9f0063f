// What the test bed's tool does inside a guest, whatever the guest is: a VM, or a namespace behind a TAP device.

import type { Facts, Outcome, Packet, Probe } from "./internet-tool.js";

export abstract class ToolUser {
  /** Runs a command of the tool in the guest. */
  protected abstract tool<T>(command: string, argument: unknown): Promise<T>;

  /** Tries all at once, as ordinary clients. */
  client(probes: readonly Probe[]): Promise<Outcome[]> {
    return this.tool("client", probes);
  }

  /** Tries one thing. */
  async try(probe: Probe): Promise<Outcome> {
    return (await this.client([probe]))[0]!;
  }

  /** Sends whole Ethernet frames. @returns What came in until `watchMs` after. */
  frames(
    device: string,
    frames: readonly Uint8Array[],
    watchMs: number,
  ): Promise<{ sent: number; failed: string[]; received: Packet[] }> {
    const hex = frames.map((frame) => Buffer.from(frame).toString("hex"));
    return this.tool("frames", { device, frames: hex, watchMs });
  }

  facts(): Promise<Facts> {
    return this.tool("facts", {});
  }
}
