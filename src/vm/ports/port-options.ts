// What a caller may ask of a VM's ports while it exists, checked before anything happens.

import { isIPv4 } from "node:net";
import { z } from "zod";
import type { WaitOptions } from "../../base/deadline.js";
import type { HostPort } from "../../storage/port-store.js";
import { refusal } from "../refusal.js";
import { DEFAULT_HOST_ADDRESS } from "./default-host-address.js";

export { DEFAULT_HOST_ADDRESS } from "./default-host-address.js";

/** Forwards of one VM that its user asks for, when it is made and later. */
export const PORTS_LIMIT = 64;
/** Below it only root may listen, and the process that serves the ports is not root. */
const FIRST_UNPRIVILEGED_PORT = 1024;
const LAST_PORT = 65_535;

const GUEST_PORT_EXPECTED = `a whole number from 1 to ${LAST_PORT}`;
/** A port of the guest. */
export const guestPortSchema = z
  .int(GUEST_PORT_EXPECTED)
  .min(1, GUEST_PORT_EXPECTED)
  .max(LAST_PORT, GUEST_PORT_EXPECTED);

const fixedPort = (expected: string) => z.int(expected).min(FIRST_UNPRIVILEGED_PORT, expected).max(LAST_PORT, expected);
const HOST_PORT_EXPECTED = `0 or a whole number from ${FIRST_UNPRIVILEGED_PORT} to ${LAST_PORT}`;
/** A port of the host; 0: a free one. */
export const hostPortSchema = z.union([z.literal(0), fixedPort(HOST_PORT_EXPECTED)], HOST_PORT_EXPECTED);

const IP_EXPECTED = "an IPv4 address";
/** An address of the host. */
export const hostAddressSchema = z.string(IP_EXPECTED).refine((text) => isIPv4(text), IP_EXPECTED);

const expose = z.strictObject({
  guestPort: guestPortSchema,
  hostPort: hostPortSchema.default(0),
  hostAddress: hostAddressSchema.default(DEFAULT_HOST_ADDRESS),
});
const FIXED_EXPECTED = `a whole number from ${FIRST_UNPRIVILEGED_PORT} to ${LAST_PORT}`;
const close = z.strictObject({
  hostPort: fixedPort(FIXED_EXPECTED),
  hostAddress: hostAddressSchema.default(DEFAULT_HOST_ADDRESS),
});

/** Options of `expose`. */
export interface ExposeOptions extends WaitOptions {
  /** Port of the host, from 1024. Default, and for 0: a free one. */
  readonly hostPort?: number | undefined;
  /** IPv4 address of the host to listen on. Default `"127.0.0.1"`: only the host reaches it; `"0.0.0.0"`: all its addresses. */
  readonly hostAddress?: string | undefined;
}

/** Options of `closePort`. */
export interface ClosePortOptions extends WaitOptions {
  /** The address that it listens on. Default `"127.0.0.1"`. */
  readonly hostAddress?: string | undefined;
}

/** @throws {INVALID_CONFIG} naming `guestPort` or the option. */
export function checkExpose(guestPort: number, options: ExposeOptions = {}): z.output<typeof expose> {
  return check(expose, { ...withoutWait(options), guestPort });
}

/** @throws {INVALID_CONFIG} naming `hostPort` or the option. */
export function checkClosePort(hostPort: number, options: ClosePortOptions = {}): HostPort {
  return check(close, { ...withoutWait(options), hostPort });
}

function withoutWait<T extends WaitOptions>(options: T): Omit<T, keyof WaitOptions> {
  const { signal, timeoutMs, ...rest } = options;
  return rest;
}

function check<T>(schema: z.ZodType<T>, input: Readonly<Record<string, unknown>>): T {
  const parsed = schema.safeParse(input);
  if (parsed.success) return parsed.data;
  throw refusal(parsed.error.issues, { input, name: "options", unknownField: "no option of this name" });
}
