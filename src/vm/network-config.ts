// The `network` field of a configuration: its forms, and what they mean.

import { z } from "zod";
import { invalidConfig } from "../errors/invalid-config.js";
import { type EgressPolicy, egressRules } from "../network/egress-policy.js";
import { refusal } from "./refusal.js";

const ALLOW_LIMIT = 1024;
/** Beyond it nobody's network goes, and 64 bits would hold no second of it. */
const RATE_LIMIT_MBPS = 100_000;

const ALLOW_EXPECTED = `a list of 1 to ${ALLOW_LIMIT} texts`;
const allow = z.array(z.string(ALLOW_EXPECTED), ALLOW_EXPECTED).min(1, ALLOW_EXPECTED).max(ALLOW_LIMIT, ALLOW_EXPECTED);
const EGRESS_EXPECTED = '"open", "off" or { allow: [...] }';
const egress = z.union(
  [z.enum(["open", "off"]), z.strictObject({ allow: allow.readonly() }).readonly()],
  EGRESS_EXPECTED,
);
const RATE_EXPECTED = `a whole number of megabits per second from 1 to ${RATE_LIMIT_MBPS}`;
const rateLimitMbps = z.int(RATE_EXPECTED).min(1, RATE_EXPECTED).max(RATE_LIMIT_MBPS, RATE_EXPECTED);
const mode = z.enum(["none", "user", "tap"], 'one of "none", "user", "tap"');

export type { EgressPolicy } from "../network/egress-policy.js";

/** The field as users write it. */
export const networkSchema = z.union(
  [mode, z.strictObject({ mode, egress: egress.optional(), rateLimitMbps: rateLimitMbps.optional() }).readonly()],
  '"none", "user", "tap" or { mode, egress?, rateLimitMbps? }',
);

/** What a VM's record keeps of a policy. */
export const egressSchema = egress;

/** A network as it was asked for, with its defaults. */
export interface AskedNetwork {
  readonly mode: "none" | "user" | "tap";
  /** Default `"open"`. */
  readonly egress: EgressPolicy;
  /** Of each direction, in megabits per second; `undefined`: none. */
  readonly rateLimitMbps: number | undefined;
}

/** Both forms of the field as one. */
export function networkOf(config: { readonly network: z.output<typeof networkSchema> }): AskedNetwork {
  const { network } = config;
  if (typeof network === "string") return { mode: network, egress: "open", rateLimitMbps: undefined };
  return { mode: network.mode, egress: network.egress ?? "open", rateLimitMbps: network.rateLimitMbps };
}

/** @throws {INVALID_CONFIG} naming the entry of the policy that is wrong. */
export function checkNetwork(config: { readonly network: z.output<typeof networkSchema> }): void {
  const { network } = config;
  if (typeof network === "string") return;
  if (network.egress !== undefined) egressRules(network.egress);
  if (network.mode !== "none") return;
  const field = network.rateLimitMbps === undefined ? "network.egress" : "network.rateLimitMbps";
  const value = network.rateLimitMbps ?? network.egress;
  if (value === undefined || value === "off") return;
  throw invalidConfig({ field, value, expected: 'nothing with network mode "none", which has no network' });
}

/**
 * Checks a policy that is to replace another one.
 *
 * @throws {INVALID_CONFIG} naming the entry that is wrong.
 */
export function checkEgress(policy: unknown): EgressPolicy {
  const parsed = egress.safeParse(policy);
  if (!parsed.success) {
    const issues = parsed.error.issues.map((issue) => ({ ...issue, path: ["egress", ...issue.path] }));
    throw refusal(issues, { input: { egress: policy }, name: "egress", unknownField: "no field of this name" });
  }
  egressRules(parsed.data, "egress");
  return parsed.data;
}
