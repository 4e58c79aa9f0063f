// Whether this host can do TAP networks at all, asked before anything is made.

import { accessSync, closeSync, constants, openSync } from "node:fs";
import type { Deadline } from "../../base/deadline.js";
import { isSmolVMError, SmolVMError } from "../../errors/smolvm-error.js";
import { hasCapability } from "../../host/capabilities.js";
import { findProgram } from "../../host/find-program.js";
import { baseRules } from "./base-rules.js";
import { runNft } from "./run-nft.js";
import { replacementOfVm, type TapVm } from "./vm-rules.js";

/** The device file by which TAP devices are opened. */
export const TUN_DEVICE = "/dev/net/tun";
/** A setting that exists in every network namespace. */
const SETTING = "/proc/sys/net/ipv4/conf/all/forwarding";
/** Bound of the trial, in milliseconds. */
const TRIAL_MS = 10_000;

const ELSE = 'use network "user", which needs no rights';

/** A VM whose rules use all that rules can use. */
const EXAMPLE: TapVm = {
  index: 0,
  macAddress: "02:00:00:00:00:00",
  policy: {
    mode: "allow",
    names: [{ name: "example.com", port: 443 }],
    networks: [{ cidr: "192.0.2.0/24" }, { cidr: "198.51.100.7/32", port: 25 }],
  },
  rateLimitMbps: 1,
};

let hasTried = false;

/** What of a host is asked for beyond the rest. */
export interface TapNeeds {
  /** Default false. */
  readonly hasRateLimit?: boolean;
}

/**
 * Throws where TAP networks are impossible. The rules themselves are tried once in each program, without putting them in
 * force.
 *
 * @throws {HOST_UNSUPPORTED} when rights, a program, a device or a part of the kernel is missing; the hint says which.
 * @throws {TIMEOUT} {ABORTED}
 */
export async function requireTapHost(deadline: Deadline, { hasRateLimit = false }: TapNeeds = {}): Promise<void> {
  if (process.platform !== "linux") throw unsupported("it exists on Linux only", `On this system ${ELSE}.`);
  const lacking = (["CAP_NET_ADMIN", "CAP_NET_BIND_SERVICE"] as const).filter((name) => !hasCapability(name));
  if (lacking.length > 0) {
    const hint = `Run it as root, give it what \`smolvm setup\` names, or ${ELSE}.`;
    throw unsupported(`this program lacks ${lacking.join(" and ")}`, hint, { lacking });
  }
  const programs = ["nft", "ip", ...(hasRateLimit ? ["tc"] : [])];
  const missing = programs.filter((program) => findProgram(program) === undefined);
  if (missing.length > 0) {
    const hint = `Run \`smolvm setup\`, install nftables and iproute2, or ${ELSE}.`;
    throw unsupported(`not installed: ${missing.join(", ")}`, hint, { missing });
  }
  requireFile(
    TUN_DEVICE,
    openForBoth,
    `Load the kernel's module (\`modprobe tun\`), give it to the container, or ${ELSE}.`,
  );
  requireFile(SETTING, openForBoth, `Mount /proc/sys writable, or ${ELSE}.`);
  if (!hasTried) await tryRules(deadline.atMost(TRIAL_MS));
  hasTried = true;
}

function openForBoth(path: string): void {
  accessSync(path, constants.R_OK | constants.W_OK);
  closeSync(openSync(path, "r+"));
}

function requireFile(path: string, use: (path: string) => void, hint: string): void {
  try {
    use(path);
  } catch (error) {
    const reason = (error as NodeJS.ErrnoException).code ?? String(error);
    throw unsupported(`"${path}" cannot be used (${reason})`, hint, { path, reason }, error);
  }
}

async function tryRules(deadline: Deadline): Promise<void> {
  try {
    await runNft([...baseRules([]), ...replacementOfVm(EXAMPLE)], deadline, { isTrial: true });
  } catch (error) {
    if (!isSmolVMError(error, "NETWORK_FAILED")) throw error;
    const hint = `A kernel of 5.10 or later with nf_tables, NAT and conntrack, and nft of 1.0 or later are needed; or ${ELSE}.`;
    throw unsupported(`nft or the kernel refuses the rules (${error.message})`, hint, error.details, error);
  }
}

function unsupported(why: string, hint: string, details = {}, cause?: unknown): SmolVMError {
  return new SmolVMError("HOST_UNSUPPORTED", `Cannot use network "tap": ${why}`, { hint, details, cause });
}
