// Times of files as callers give them, as the protocol takes them: nanoseconds since 1970.

import { invalidConfig } from "../../errors/invalid-config.js";

const NS_PER_MS = 1_000_000n;
/** What a number of seconds can tell exactly today: a double has about that much room beside 1.7e9. */
const US_PER_SECOND = 1e6;
const NS_PER_US = 1000n;
const NS_BITS = 64;

/** Seconds since 1970, as a number or its text, or a `Date`. */
export type FileTime = number | string | Date;

/**
 * A time as a `u64` of the protocol (two's complement).
 *
 * @throws {INVALID_CONFIG} when it is not a time, or not one between the years 1677 and 2262.
 */
export function fileTime(field: string, time: FileTime): bigint {
  const ns = nanoseconds(time);
  if (ns === undefined || ns !== BigInt.asIntN(NS_BITS, ns)) {
    const value = time instanceof Date ? String(time) : time;
    throw invalidConfig({ field, value, expected: "seconds since 1970 or a Date, between 1677 and 2262" });
  }
  return BigInt.asUintN(NS_BITS, ns);
}

function nanoseconds(time: unknown): bigint | undefined {
  if (time instanceof Date) {
    const ms = time.getTime();
    return Number.isFinite(ms) ? BigInt(ms) * NS_PER_MS : undefined;
  }
  const isText = typeof time === "string" && time.trim() !== "";
  const seconds = isText ? Number(time) : time;
  if (typeof seconds !== "number" || !Number.isFinite(seconds)) return undefined;
  return BigInt(Math.round(seconds * US_PER_SECOND)) * NS_PER_US;
}
