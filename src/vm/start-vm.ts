// Boots a VM: log keeper, network, VMM, then the agent's answer. One retry when the guest stays silent.

import { randomBytes } from "node:crypto";
import { chmod, mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { Backend, StartedVmm } from "../backends/backend.js";
import { backendFor } from "../backends/registry.js";
import { Deadline, type WaitOptions } from "../base/deadline.js";
import { fileError } from "../errors/file-error.js";
import { isSmolVMError, SmolVMError } from "../errors/smolvm-error.js";
import { throwIfAborted } from "../errors/wait-errors.js";
import { configureGuest } from "../guest/configure.js";
import type { GuestConnection } from "../guest/connection.js";
import { identifyProcess, selfIdentity } from "../host/process-identity.js";
import { claimVm } from "./claim.js";
import { CONSOLE_LOG, LOG_TAIL_BYTES, MESSAGES_LOG, readLog } from "./console-log.js";
import type { VmContext } from "./context.js";
import { readEnvironment } from "./environment-file.js";
import { type LogKeeper, startLogKeeper } from "./log-keeper.js";
import { releaseRuntime } from "./release-runtime.js";
import { LOG_KEEPER_ROLE, NETWORK_ROLE, VMM_ROLE } from "./resources.js";
import { type StartedNetwork, startNetwork } from "./start-network.js";
import { decodeSpec, type VmSpec } from "./vm-spec.js";

/** Boots before giving up on a guest that stays silent. */
const BOOT_ATTEMPTS = 2;
/** How long a call waits for another process that is changing the VM, in milliseconds. */
export const CLAIM_TIMEOUT_MS = 120_000;
/** How long the log of a VMM that ended may take to be written, in milliseconds. */
const VMM_LAST_WORDS_MS = 500;

/** A boot in progress. */
interface Boot {
  readonly vmId: string;
  readonly spec: VmSpec;
  readonly backend: Backend;
  readonly runtimeDir: string;
  readonly deadline: Deadline;
}

/**
 * Starts a VM and waits until it takes commands. Nothing happens when it runs already.
 *
 * @throws {BOOT_TIMEOUT} {BOOT_FAILED} with `details.serialTail` and `details.vmmStderr`; the VM is then in state `error`.
 * @throws {VM_NOT_FOUND} {INVALID_STATE} {BUSY} {ABORTED} {HOST_UNSUPPORTED} {NETWORK_FAILED} {PORT_IN_USE}
 */
export async function startVm(ctx: VmContext, vmId: string, options: WaitOptions = {}): Promise<void> {
  const row = await claimVm(ctx, vmId, "start", Deadline.from(options, CLAIM_TIMEOUT_MS));
  if (row === "already") return;
  const self = await selfIdentity();
  try {
    await bootWithRetry(ctx, vmId, decodeSpec(vmId, row.spec), options);
    ctx.store.vms.settle(vmId, self, { status: "running" });
  } catch (error) {
    const released = await releaseRuntime(ctx, vmId).then(
      () => true,
      () => false,
    );
    const isHarmless = released && isSmolVMError(error, "ABORTED");
    const failure = { code: codeOf(error), message: String((error as Error).message) };
    ctx.store.vms.settle(vmId, self, isHarmless ? { status: row.status } : { status: "error", failure });
    throw error;
  }
}

async function bootWithRetry(ctx: VmContext, vmId: string, spec: VmSpec, options: WaitOptions): Promise<void> {
  const whole = Deadline.from(options, spec.bootTimeoutMs * BOOT_ATTEMPTS);
  for (let attempt = 1; ; attempt++) {
    throwIfAborted(`Start of VM "${vmId}"`, options.signal);
    try {
      await bootOnce(ctx, vmId, spec, whole.atMost(spec.bootTimeoutMs));
      return;
    } catch (error) {
      const mayRetry = isSmolVMError(error, "BOOT_TIMEOUT") && attempt < BOOT_ATTEMPTS && !whole.hasExpired;
      if (!mayRetry) throw error;
      await releaseRuntime(ctx, vmId);
    }
  }
}

async function bootOnce(ctx: VmContext, vmId: string, spec: VmSpec, deadline: Deadline): Promise<void> {
  const backend = backendFor(spec.backend);
  const runtimeDir = join(ctx.paths.runtimeDir, randomBytes(6).toString("hex"));
  const boot: Boot = { vmId, spec, backend, runtimeDir, deadline };
  ctx.store.resources.plan(vmId, [
    { kind: "runtime", name: runtimeDir },
    { kind: "process", name: LOG_KEEPER_ROLE },
    ...(spec.networkMode === "none" ? [] : [{ kind: "process" as const, name: NETWORK_ROLE }]),
    { kind: "process", name: VMM_ROLE },
  ]);
  await makeRuntimeDir(ctx.paths.runtimeDir, runtimeDir);
  const [keeper, network] = await allOrNone(startKeeper(ctx, boot), startNetwork(ctx, boot));
  const vmm = await startVmm(ctx, boot, { keeper, network }).finally(() => keeper.handOver());
  const connection = await greet(ctx, boot, vmm);
  const env = await readEnvironment(spec.directory);
  await configureGuest(
    connection,
    { hostname: vmId, machineId: spec.machineId, env, network: network?.guest, growRoot: spec.growRoot },
    deadline,
  ).catch(async (error: unknown) => {
    throw isSmolVMError(error, "TIMEOUT") ? await bootTimeout(boot) : error;
  });
}

async function startKeeper(ctx: VmContext, { vmId, spec, runtimeDir }: Boot): Promise<LogKeeper> {
  const keeper = await startLogKeeper(ctx.helperPath("logkeeper"), { logDir: spec.directory, runtimeDir });
  await record(ctx, vmId, LOG_KEEPER_ROLE, keeper.pid);
  return keeper;
}

async function startVmm(
  ctx: VmContext,
  { vmId, spec, backend, runtimeDir, deadline }: Boot,
  parts: { readonly keeper: LogKeeper; readonly network: StartedNetwork | undefined },
): Promise<StartedVmm> {
  const machine = { ...spec, vmId, runtimeDir, network: parts.network?.device };
  const vmm = await backend.start(machine, parts.keeper, deadline);
  await record(ctx, vmId, VMM_ROLE, vmm.pid);
  return vmm;
}

/** Waits for the agent's answer, or for the VMM's end, whichever comes first. */
async function greet(ctx: VmContext, boot: Boot, vmm: StartedVmm): Promise<GuestConnection> {
  const { vmId, spec, runtimeDir, deadline } = boot;
  const ended = new AbortController();
  const signals = deadline.signal === undefined ? ended.signal : AbortSignal.any([deadline.signal, ended.signal]);
  void vmm.ended.then((end) => ended.abort(end));
  const bound = Deadline.after(deadline.remainingMs, signals);
  try {
    return await ctx.channels.open({ vmId, backend: spec.backend, runtimeDir }, bound);
  } catch (error) {
    if (deadline.isAborted) throw error;
    if (isSmolVMError(error, "TIMEOUT")) throw await bootTimeout(boot);
    if (isSmolVMError(error, "ABORTED") || isSmolVMError(error, "CHANNEL_CLOSED")) throw await bootFailed(boot, vmm);
    throw error;
  }
}

async function bootTimeout({ vmId, spec }: Boot): Promise<SmolVMError> {
  return new SmolVMError("BOOT_TIMEOUT", `VM "${vmId}" gave no sign of life within ${spec.bootTimeoutMs} ms`, {
    details: { vmId, bootTimeoutMs: spec.bootTimeoutMs, ...(await lastWords(spec)) },
  });
}

async function bootFailed({ vmId, spec }: Boot, vmm: StartedVmm): Promise<SmolVMError> {
  const end = await vmm.ended;
  await new Promise((resolve) => setTimeout(resolve, VMM_LAST_WORDS_MS));
  const words = await lastWords(spec);
  const how = end.signal === null ? `exited with ${end.exitCode}` : `was killed by ${end.signal}`;
  const last = words.vmmStderr.trim().split("\n").pop() || words.serialTail.trim().split("\n").pop() || "no output";
  return new SmolVMError("BOOT_FAILED", `VM "${vmId}" ended during boot: its VMM ${how}: ${last}`, {
    details: { vmId, ...end, ...words },
  });
}

async function lastWords({ directory }: VmSpec) {
  return {
    serialTail: await readLog(directory, CONSOLE_LOG, LOG_TAIL_BYTES),
    vmmStderr: await readLog(directory, MESSAGES_LOG, LOG_TAIL_BYTES),
  };
}

async function makeRuntimeDir(root: string, runtimeDir: string): Promise<void> {
  try {
    // Passing through is allowed for the network helper, which gives up its user; listing is not.
    for (const directory of [join(root, ".."), root]) {
      await mkdir(directory, { recursive: true, mode: 0o711 });
    }
    await mkdir(runtimeDir, { mode: 0o711 });
    await chmod(runtimeDir, 0o711);
  } catch (error) {
    throw fileError("Create the socket directory of a VM", runtimeDir, error);
  }
}

async function record(ctx: VmContext, vmId: string, role: string, pid: number): Promise<void> {
  const identity = await identifyProcess(pid);
  if (identity !== undefined) ctx.store.resources.setProcess(vmId, role, identity);
}

/** Like `Promise.all`, but waits for both also when one fails: nothing is started behind the caller's back. */
async function allOrNone<A, B>(a: Promise<A>, b: Promise<B>): Promise<[A, B]> {
  await Promise.allSettled([a, b]);
  return Promise.all([a, b]);
}

function codeOf(error: unknown): string {
  return error instanceof SmolVMError ? error.code : "INTERNAL";
}
