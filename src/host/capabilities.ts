// Which capabilities this process has (capabilities(7)).

import { readFileSync } from "node:fs";

/** Numbers of capabilities in <linux/capability.h>. */
const NUMBERS = { CAP_NET_BIND_SERVICE: 10, CAP_NET_ADMIN: 12 } as const;

/** A capability by its name. */
export type Capability = keyof typeof NUMBERS;

/**
 * Whether this process may do what a capability permits, in its own network namespace.
 *
 * @param status Text of `/proc/self/status`.
 */
export function hasCapability(name: Capability, status = ownStatus()): boolean {
  const mask = /^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1];
  return mask !== undefined && ((BigInt(`0x${mask}`) >> BigInt(NUMBERS[name])) & 1n) === 1n;
}

/** Whether a program that this one starts would have capabilities, although this one is not root. */
export function hasInheritedCapabilities(status = ownStatus()): boolean {
  return ["CapAmb", "CapInh"].some((field) => {
    const mask = new RegExp(`^${field}:\\s*([0-9a-f]+)$`, "m").exec(status)?.[1];
    return mask !== undefined && BigInt(`0x${mask}`) !== 0n;
  });
}

/** Empty where there is no such file. */
function ownStatus(): string {
  try {
    return readFileSync("/proc/self/status", "latin1");
  } catch {
    return "";
  }
}
