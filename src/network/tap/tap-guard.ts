// Starts tapguard, which serves one TAP device: DNS, the proxy for allowed names, and records of what was refused. It
// outlives this program and ends with the VMM that it was told of. It starts a sentinel beside it, which takes the device
// down when the guard dies or rules are gone.

import { chownSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Deadline } from "../../base/deadline.js";
import { SmolVMError } from "../../errors/smolvm-error.js";
import { controlCall } from "../../host/control-call.js";
import type { ProcessIdentity } from "../../host/process-identity.js";
import { awaitGuard } from "../await-guard.js";
import { CONTROL_NAME, guardDirectory, guardLog, spawnGuard } from "../guard-process.js";
import type { EnforcedPolicy } from "../network-plan.js";
import { POLICY_FD, READY_FD, REFUSALS_FD } from "../passt-argv.js";
import { type UserIds, unprivilegedUser } from "../unprivileged-user.js";
import type { TapAddresses } from "./addresses.js";
import { PROXY_PORT } from "./vm-rules.js";

/** What {@link startTapGuard} needs. */
export interface TapGuardOptions {
  /** The VM's directory for sockets; `net` in it is the guard's, and is made where it is not there. */
  readonly dir: string;
  readonly addresses: TapAddresses;
  readonly policy: EnforcedPolicy;
  /** Path of the `tapguard` program. */
  readonly guardPath: string;
  /** File for refusals, see docs/network.md. */
  readonly refusalsPath: string;
  /** Bound of `ready`. */
  readonly deadline: Deadline;
}

/** A tapguard that was started. */
export interface StartedTapGuard {
  readonly pid: number;
  /** Resolves when it serves. A rejection that nobody waits for is not reported. @throws {NETWORK_FAILED} {TIMEOUT} {ABORTED} */
  readonly ready: Promise<void>;
  /**
   * Tells it which VMM it ends with. A guard that is told of none ends by itself after a minute.
   *
   * @throws {NETWORK_FAILED} when it cannot see that one. @throws {TIMEOUT} {ABORTED}
   */
  follow(vmm: ProcessIdentity): Promise<void>;
}

/**
 * The user and group that the sentinel has when this program is root: of no other program, so none may stop it, not even
 * another guard that a guest has taken over. It needs no account. Ids 65520 to 65533 are given to nobody (systemd's
 * docs/UIDS-GIDS.md: unused; Debian's policy, 9.2.2: reserved), and containers of 65,536 ids have them.
 */
const SENTINEL_USER: UserIds = { uid: 65_525, gid: 65_525 };

const ACTION = "Start of the guard of a TAP network";

/** @throws {HOST_UNSUPPORTED} when it is not installed. @throws {HOST_COMMAND_FAILED} */
export async function startTapGuard(options: TapGuardOptions): Promise<StartedTapGuard> {
  const directory = guardDirectory(options.dir);
  const user = unprivilegedUser();
  mkdirSync(directory, { mode: 0o700, recursive: true });
  if (user !== undefined) chownSync(directory, user.uid, user.gid);
  const argv = tapGuardArgv(options);
  const guard = await spawnGuard({ argv, directory, policy: options.policy, refusalsPath: options.refusalsPath });
  const { deadline } = options;
  const ready = awaitGuard(guard, {
    action: ACTION,
    deadline,
    failure: async (end) => {
      const log = await guardLog(directory);
      const last = log.trimEnd().split("\n").pop() ?? "";
      return new SmolVMError("NETWORK_FAILED", `Cannot start the guard of a TAP network: ${last}`, {
        details: { argv, ...end, log },
      });
    },
  });
  ready.catch(() => {}); // Whoever does not wait for it yet may do so later.
  const follow = async ({ pid, startTime }: ProcessIdentity) => {
    await ready;
    const answer = await controlCall(join(directory, CONTROL_NAME), { op: "follow", pid, startTime }, deadline);
    if (answer?.ok === true || answer?.code === "ESRCH") return; // A VMM that has ended is told of by others.
    const reason = answer === undefined ? "it does not answer" : answer.message;
    throw new SmolVMError("NETWORK_FAILED", `The guard of a TAP network cannot watch its VMM: ${reason}`, {
      details: { pid, reason },
    });
  };
  return { pid: guard.pid, ready, follow };
}

/** tapguard's argv. */
function tapGuardArgv({ guardPath, addresses }: Pick<TapGuardOptions, "guardPath" | "addresses">): string[] {
  const user = unprivilegedUser();
  return [
    guardPath,
    ...["-device", addresses.device, "-gateway", addresses.gateway, "-guest", addresses.guest],
    ...["-proxy-port", String(PROXY_PORT), "-nflog-group", String(addresses.logGroup)],
    ...["-policy-fd", String(POLICY_FD), "-denials-fd", String(REFUSALS_FD), "-ready-fd", String(READY_FD)],
    ...["-control", CONTROL_NAME],
    ...(user === undefined ? [] : ["-runas", idsOf(user), "-sentinel-as", idsOf(SENTINEL_USER)]),
  ];
}

function idsOf({ uid, gid }: UserIds): string {
  return `${uid}:${gid}`;
}
