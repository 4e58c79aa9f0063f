// The limit of what a guest receives: a queue at its device, with `tc`. What it sends is limited by its rules.

import type { Deadline } from "../../base/deadline.js";
import { isSmolVMError, SmolVMError } from "../../errors/smolvm-error.js";
import { runProgram } from "../../host/process.js";
import { addressesOf } from "./addresses.js";

/** How long a packet may wait before it is dropped, in milliseconds. */
const QUEUE_MS = 50;
/** Sent at once: that of this time (a timer's tick and more), and no less than one of a TAP's largest packets. */
const BURST_MS = 10;
const LEAST_BURST_BYTES = 128 * 1024;
const BYTES_PER_MEGABIT = 125_000;

/**
 * Limits what goes to the guest, on a device that is there.
 *
 * @param rateLimitMbps In megabits per second, more than 0.
 * @throws {NETWORK_FAILED} when the kernel has no token bucket. @throws {HOST_UNSUPPORTED} without `tc`.
 * @throws {TIMEOUT} {ABORTED}
 */
export async function limitRate(index: number, rateLimitMbps: number, deadline: Deadline): Promise<void> {
  const { device } = addressesOf(index);
  const bytesPerSecond = Math.ceil(rateLimitMbps * BYTES_PER_MEGABIT);
  const burstBytes = Math.max(LEAST_BURST_BYTES, Math.ceil((bytesPerSecond * BURST_MS) / 1_000));
  const queue = `tbf rate ${bytesPerSecond}bps burst ${burstBytes} latency ${QUEUE_MS}ms`;
  try {
    // tc(8): "bps" is bytes per second.
    await runProgram(["tc", ...`qdisc replace dev ${device} root ${queue}`.split(" ")], {
      timeoutMs: deadline.remainingMs,
      signal: deadline.signal,
    });
  } catch (error) {
    if (!isSmolVMError(error, "HOST_COMMAND_FAILED")) throw error;
    const stderr = String(error.details["stderr"]);
    throw new SmolVMError("NETWORK_FAILED", `Cannot limit the rate of "${device}": ${stderr.split("\n", 1)[0]}`, {
      details: { stderr, rateLimitMbps },
      cause: error,
    });
  }
}
