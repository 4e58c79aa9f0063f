// The TAP network of one boot: device, rules and guard, and the same for a VM that runs already.

import type { Deadline } from "../base/deadline.js";
import { deferred } from "../base/deferred.js";
import { SmolVMError } from "../errors/smolvm-error.js";
import type { GuestInterface } from "../guest/configure.js";
import { hasCapability } from "../host/capabilities.js";
import type { ProcessIdentity } from "../host/process-identity.js";
import { egressRules } from "../network/egress-policy.js";
import { type HostNetwork, readHostNetwork } from "../network/host-network.js";
import { macAddressOf } from "../network/mac-address.js";
import { type EnforcedPolicy, enforcedPolicy, warningsOf } from "../network/network-plan.js";
import { TAP_MTU_BYTES, type TapAddresses } from "../network/tap/addresses.js";
import { requireTapHost } from "../network/tap/require-tap-host.js";
import { type StartedTapGuard, startTapGuard } from "../network/tap/tap-guard.js";
import type { TapOwner } from "../network/tap/tap-registry.js";
import type { VmContext } from "./context.js";
import { helperPath } from "./helper-programs.js";
import { recordProcess } from "./live-process.js";
import type { NetworkStart, StartedNetwork } from "./network-start.js";
import { refusalsPath } from "./refusals.js";
import { NETWORK_ROLE, TAP_RESOURCE } from "./resources.js";

/** Whose lease it is, host-wide. */
export function tapOwner(ctx: VmContext, vmId: string): TapOwner {
  return { stateDir: ctx.paths.stateDir, vmId };
}

/**
 * Makes the device. The VMM may be started when this returns; rules and guard follow, and the device is down until the
 * rules are in force.
 *
 * @throws {NETWORK_FAILED} {HOST_UNSUPPORTED} {BUSY} {TIMEOUT} {ABORTED} What was made is on record.
 */
export async function startTapNetwork(ctx: VmContext, start: NetworkStart): Promise<StartedNetwork> {
  const { vmId, spec, deadline } = start;
  await requireTapHost(deadline, { hasRateLimit: spec.rateLimitMbps !== null });
  const host = await readHostNetwork();
  const policy = enforcedPolicy(spec.egress, host);
  const macAddress = macAddressOf(vmId);
  ctx.store.resources.plan(vmId, [TAP_RESOURCE]);
  const request = { macAddress, policy, rateLimitMbps: spec.rateLimitMbps ?? undefined, hostNetworks: host.networks };
  const owner = { owner: tapOwner(ctx, vmId), ownerUid: process.getuid?.() ?? 0 };
  const { addresses, enforce, open } = await ctx.taps().networks.begin({ ...request, ...owner }, deadline);
  // Rules and guard are there long before the guest's first packet, but a VMM that starts needs the processors more.
  const followed = deferred<ProcessIdentity>();
  const guard = followed.promise.then(enforce).then(() => startRecordedGuard(ctx, start, { addresses, policy }));
  const ready = followed.promise.then(async (vmm) => {
    const { ready, follow } = await guard;
    await ready;
    await open(); // Not before: the rules leave ports of the host to the guard.
    await follow(vmm);
    ctx.tapChecks.made(vmId);
  });
  ready.catch(() => {}); // Whoever does not wait for it yet may do so later.
  let recorded: Promise<unknown> | undefined;
  return {
    device: { link: { kind: "tap", device: addresses.device }, macAddress },
    guest: guestOf(addresses, macAddress, host),
    warnings: warningsOf(policy),
    handOver: async () => recorded,
    follow: (vmm) => {
      recorded = ready.catch(() => {}); // Nothing of it may be under way when a failed start is released.
      followed.resolve(vmm);
    },
    ready,
  };
}

async function startRecordedGuard(
  ctx: VmContext,
  start: NetworkStart,
  { addresses, policy }: { readonly addresses: TapAddresses; readonly policy: EnforcedPolicy },
): Promise<StartedTapGuard> {
  const guard = await startGuard(start, addresses, policy);
  await recordProcess(ctx, { vmId: start.vmId, role: NETWORK_ROLE, pid: guard.pid });
  return guard;
}

/**
 * Puts the rules of the policy on record in force, in one transaction.
 *
 * @throws {NETWORK_FAILED} {BUSY} {TIMEOUT} {ABORTED} The old rules hold.
 */
async function applyTapRules(ctx: VmContext, { vmId, spec, deadline }: NetworkStart): Promise<void> {
  await ctx.taps().networks.update(tapOwner(ctx, vmId), egressRules(spec.egress), deadline);
}

/** Starts another guard for a device that is there. */
export async function restartTapGuard(ctx: VmContext, start: NetworkStart): Promise<StartedTapGuard> {
  const addresses = ctx.taps().networks.addressesOf(tapOwner(ctx, start.vmId));
  if (addresses === undefined) {
    throw new SmolVMError("NETWORK_FAILED", `Cannot mend the network of VM "${start.vmId}": its TAP device is gone`, {
      details: { vmId: start.vmId },
      hint: "Stop and start the VM.",
    });
  }
  return startGuard(start, addresses, enforcedPolicy(start.spec.egress, await readHostNetwork()));
}

/**
 * Whether a VM's device and rules are as they were made; true as well where this program cannot tell: without the rights,
 * or in another network namespace.
 *
 * @throws {STORAGE_FAILED} {TIMEOUT} {ABORTED}
 */
export async function isTapInForce(ctx: VmContext, vmId: string, deadline: Deadline): Promise<boolean> {
  if (!hasCapability("CAP_NET_ADMIN")) return true;
  const { networks } = ctx.taps();
  const owner = tapOwner(ctx, vmId);
  return networks.addressesOf(owner) === undefined || (await networks.isInForce(owner, deadline));
}

/**
 * Brings device and rules to what is on record, whatever they are.
 *
 * @throws {NETWORK_FAILED} {BUSY} {TIMEOUT} {ABORTED}
 */
export async function mendTap(ctx: VmContext, network: NetworkStart): Promise<void> {
  const { networks } = ctx.taps();
  await applyTapRules(ctx, network);
  if (!(await isTapInForce(ctx, network.vmId, network.deadline))) await networks.repair(network.deadline);
  await networks.open(tapOwner(ctx, network.vmId), network.deadline);
}

/** Lets nothing pass until {@link mendTap}. @throws {NETWORK_FAILED} {TIMEOUT} {ABORTED} */
export function closeTap(ctx: VmContext, vmId: string, deadline: Deadline): Promise<void> {
  return ctx.taps().networks.close(tapOwner(ctx, vmId), deadline);
}

function startGuard(
  { spec, runtimeDir, deadline }: NetworkStart,
  addresses: TapAddresses,
  policy: EnforcedPolicy,
): Promise<StartedTapGuard> {
  const paths = { guardPath: helperPath("tapguard"), refusalsPath: refusalsPath(spec.directory) };
  return startTapGuard({ dir: runtimeDir, addresses, policy, ...paths, deadline });
}

function guestOf({ guest, gateway, prefix }: TapAddresses, macAddress: string, host: HostNetwork): GuestInterface {
  const hasDns = host.resolvConf.nameservers.length > 0;
  return {
    macAddress,
    addresses: [`${guest}/${prefix}`],
    gateways: [gateway],
    dnsServers: hasDns ? [gateway] : [],
    dnsSearch: hasDns ? host.resolvConf.search : [],
    mtu: TAP_MTU_BYTES,
  };
}
