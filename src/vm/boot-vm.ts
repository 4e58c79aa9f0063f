// Boots a VM: network, log keeper, VMM, then the agent's answer. One retry when a guest stays silent or dies early:
// under QEMU 7.2's emulation about one boot in 200 panics where the kernel patches its clock code with two CPUs running
// ("Oops: int3" in sched_clock_*), always before the agent starts.
// The caller holds the VM's claim, and releases what a failed boot leaves on record.

import type { StartedVmm } from "../backends/backend.js";
import { backendFor } from "../backends/registry.js";
import { Deadline, shareLimit, type WaitOptions } from "../base/deadline.js";
import { isSmolVMError } from "../errors/smolvm-error.js";
import { throwIfAborted } from "../errors/wait-errors.js";
import { configureGuest } from "../guest/configure.js";
import type { GuestConnection } from "../guest/connection.js";
import { identifyProcess } from "../host/process-identity.js";
import { type Boot, bootError } from "./boot-error.js";
import type { VmContext } from "./context.js";
import { readEnvironment } from "./environment-file.js";
import { helperPath } from "./helper-programs.js";
import { type LogKeeper, startLogKeeper } from "./log-keeper.js";
import { releaseRuntime } from "./release-runtime.js";
import { LOG_KEEPER_ROLE, NETWORK_ROLE, VMM_ROLE } from "./resources.js";
import { makeRuntimeDirectory, planRuntimeDirectory } from "./runtime-directory.js";
import { type StartedNetwork, startNetwork } from "./start-network.js";

/** Boots before giving up on a guest. */
const BOOT_ATTEMPTS = 2;

/**
 * Boots a VM and waits until it takes commands.
 *
 * @throws {BOOT_TIMEOUT} {BOOT_FAILED} with `details.serialTail` and `details.vmmStderr`.
 * @throws {IMAGE_FAILED} when a file it boots from is gone or was altered.
 * @throws {ABORTED} {HOST_UNSUPPORTED} {NETWORK_FAILED} {PORT_IN_USE} {STORAGE_FAILED}
 */
export async function bootVm(
  ctx: VmContext,
  { vmId, spec }: Pick<Boot, "vmId" | "spec">,
  options: WaitOptions,
): Promise<void> {
  const { kernelPath, initrdPath, disk } = spec;
  const rest = shareLimit(options);
  await ctx.images.verify([kernelPath, initrdPath, disk.mode === "isolated" ? disk.basePath : disk.path], rest());
  const whole = Deadline.from(rest(), spec.bootTimeoutMs * BOOT_ATTEMPTS);
  for (let attempt = 1; ; attempt++) {
    throwIfAborted(`Start of VM "${vmId}"`, options.signal);
    await releaseRuntime(ctx, vmId); // What an earlier boot left must not be hidden by new rows.
    const deadline = whole.atMost(spec.bootTimeoutMs);
    try {
      await bootOnce(ctx, { vmId, spec, runtimeDir: planRuntimeDirectory(ctx), deadline });
      return;
    } catch (error) {
      const isGuestsFault = isSmolVMError(error, "BOOT_TIMEOUT") || isSmolVMError(error, "BOOT_FAILED");
      if (!isGuestsFault || attempt === BOOT_ATTEMPTS || whole.hasExpired) throw error;
    }
  }
}

async function bootOnce(ctx: VmContext, boot: Boot): Promise<void> {
  const { vmId, spec, runtimeDir, deadline } = boot;
  ctx.store.resources.plan(vmId, [
    { kind: "runtime", name: runtimeDir },
    ...(spec.networkMode === "none" ? [] : [{ kind: "process" as const, name: NETWORK_ROLE }]),
    { kind: "process", name: LOG_KEEPER_ROLE },
    { kind: "process", name: VMM_ROLE },
  ]);
  await makeRuntimeDirectory(ctx, runtimeDir);
  const network = await startNetwork(ctx, boot);
  const keeper = await startLogKeeper(helperPath("logkeeper"), { logDir: spec.directory, runtimeDir });
  await record(ctx, { vmId, role: LOG_KEEPER_ROLE, pid: keeper.pid });
  const vmm = await startVmm(ctx, boot, { keeper, network }).finally(() => keeper.handOver());
  try {
    const connection = await greet(ctx, boot, vmm);
    const env = await readEnvironment(spec.directory);
    const { machineId, growRoot } = spec;
    const settings = { hostname: vmId, machineId, env, network: network?.guest, growRoot };
    const { warnings } = await configureGuest(connection, settings, deadline);
    ctx.store.vms.setWarnings(vmId, [...(network?.warnings ?? []), ...warnings]);
  } catch (error) {
    throw await bootError(boot, { vmm, keeperPid: keeper.pid }, error);
  }
}

async function startVmm(
  ctx: VmContext,
  { vmId, spec, runtimeDir, deadline }: Boot,
  parts: { readonly keeper: LogKeeper; readonly network: StartedNetwork | undefined },
): Promise<StartedVmm> {
  const machine = { ...spec, vmId, runtimeDir, network: parts.network?.device };
  const vmm = await backendFor(spec.backend).start(machine, parts.keeper, deadline);
  await record(ctx, { vmId, role: VMM_ROLE, pid: vmm.pid });
  return vmm;
}

/** Waits for the agent's answer, or for the VMM's end, whichever comes first. */
async function greet(ctx: VmContext, boot: Boot, vmm: StartedVmm): Promise<GuestConnection> {
  const { vmId, spec, runtimeDir, deadline } = boot;
  const ended = new AbortController();
  const signals = deadline.signal === undefined ? ended.signal : AbortSignal.any([deadline.signal, ended.signal]);
  void vmm.ended.then((end) => ended.abort(end));
  const address = { vmId, backend: spec.backend, runtimeDir };
  return ctx.channels.open(address, Deadline.after(deadline.remainingMs, signals));
}

async function record(
  ctx: VmContext,
  started: { readonly vmId: string; readonly role: string; readonly pid: number },
): Promise<void> {
  const identity = await identifyProcess(started.pid);
  if (identity !== undefined) ctx.store.resources.setProcess(started.vmId, started.role, identity);
}
