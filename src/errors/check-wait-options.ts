// Checks what every waiting call accepts, before it waits.

import type { WaitOptions } from "../base/deadline.js";
import { invalidConfig } from "./invalid-config.js";

/**
 * @throws {INVALID_CONFIG} unless `timeoutMs` is left out, a whole number from 1 or `Infinity`, and `signal` is left
 *   out or an `AbortSignal`.
 */
export function checkWaitOptions(options: WaitOptions | undefined): void {
  if (options === undefined) return;
  if (typeof options !== "object" || options === null) {
    throw invalidConfig({ field: "options", value: options, expected: "an object with the call's options" });
  }
  const { timeoutMs, signal } = options;
  const isLimit =
    timeoutMs === undefined ||
    timeoutMs === Number.POSITIVE_INFINITY ||
    (Number.isInteger(timeoutMs) && timeoutMs >= 1);
  if (!isLimit) {
    throw invalidConfig({ field: "timeoutMs", value: timeoutMs, expected: "a whole number from 1, or Infinity" });
  }
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    throw invalidConfig({ field: "signal", value: signal, expected: "an AbortSignal" });
  }
}
