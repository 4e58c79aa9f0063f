// One attempt at bringing a machine up, from nothing or from an image: network, log keeper, VMM, then the agent's answer.
// Every process is on record. The caller holds the VM's claim, and releases what a failed attempt leaves.

import type { MachineMemory, MachineSpec, StartedVmm } from "../backends/backend.js";
import { backendFor } from "../backends/registry.js";
import { Deadline } from "../base/deadline.js";
import { Phases } from "../base/phases.js";
import { configureGuest, type GuestSettings } from "../guest/configure.js";
import type { GuestConnection } from "../guest/connection.js";
import { endProcessGroup } from "../host/end-process.js";
import { type Boot, bootError } from "./boot-error.js";
import { appendToConsole, GO_ON_MARK } from "./console-log.js";
import type { VmContext } from "./context.js";
import { readEnvironment } from "./environment-file.js";
import { guestMtu } from "./guest-mtu.js";
import { startServices } from "./guest-services.js";
import { helperPath } from "./helper-programs.js";
import { liveProcess, recordProcess } from "./live-process.js";
import { type LogKeeper, startLogKeeper } from "./log-keeper.js";
import type { StartedNetwork } from "./network-start.js";
import { HeldPorts } from "./ports/held-ports.js";
import { holdPorts } from "./ports/start-ports.js";
import { LOG_KEEPER_ROLE, NETWORK_ROLE, VMM_ROLE } from "./resources.js";
import { makeRuntimeDirectory, planRuntimeDirectory } from "./runtime-directory.js";
import { makeOpenSshKey } from "./ssh/openssh-key.js";
import { readSshHostKey } from "./ssh/ssh-files.js";
import { startNetwork } from "./start-network.js";
import type { VmSpec } from "./vm-spec.js";

/** What to launch. */
export interface Launch {
  readonly vmId: string;
  readonly spec: VmSpec;
  readonly memory: MachineMemory;
  /** A `template` gets no identity, and its network device, if it has one, has nothing behind it. */
  readonly role: "vm" | "template";
  /** Host ports of the VM's that are listened on already; the others are before anything is started. */
  readonly held?: HeldPorts | undefined;
  /** Of this attempt. */
  readonly deadline: Deadline;
}

/** A machine whose agent has answered and whose guest has its identity. */
export interface LaunchedVm {
  readonly runtimeDir: string;
  readonly connection: GuestConnection;
  /** What did not work and did not prevent it. */
  readonly warnings: readonly string[];
}

/**
 * @throws {BOOT_TIMEOUT} {BOOT_FAILED} with `details.serialTail` and `details.vmmStderr`.
 * @throws {ABORTED} {HOST_UNSUPPORTED} {NETWORK_FAILED} {PORT_IN_USE} {STORAGE_FAILED}
 */
export async function launchVm(ctx: VmContext, launch: Launch): Promise<LaunchedVm> {
  const held = launch.held ?? new HeldPorts();
  try {
    if (launch.role === "vm") await holdPorts(ctx, launch.vmId, held); // What is taken is told of before a slow boot.
    return await launchWith(ctx, launch, held);
  } finally {
    if (launch.held === undefined) held.close();
  }
}

async function launchWith(ctx: VmContext, launch: Launch, held: HeldPorts): Promise<LaunchedVm> {
  const { vmId, spec, deadline } = launch;
  const phases = new Phases("start", vmId);
  const runtimeDir = planRuntimeDirectory(ctx);
  const hasNetwork = launch.role === "vm" && spec.networkMode !== "none";
  ctx.store.resources.plan(vmId, [
    { kind: "runtime", name: runtimeDir },
    ...(hasNetwork ? [{ kind: "process" as const, name: NETWORK_ROLE }] : []),
    { kind: "process", name: LOG_KEEPER_ROLE },
    { kind: "process", name: VMM_ROLE },
  ]);
  await Promise.all([makeRuntimeDirectory(ctx, runtimeDir), sayWhatItGoesOnFrom(launch)]);
  phases.end("record");
  const boot = { vmId, spec, runtimeDir, deadline };
  const { network, keeper } = await startHelpers(ctx, boot, hasNetwork);
  phases.end("helpers");
  const machine = machineOf(launch, runtimeDir, network);
  const started = startVmm(ctx, boot, { machine, keeper, network });
  const recorded = started.then(handOver, handOver).catch(() => {}); // A network that is not handed over is never ready.
  const vmm = await started.catch(async (error: unknown) => {
    await recorded; // Whoever releases what a failed start leaves must find all of it.
    throw error;
  });
  phases.end("vmm started");
  function handOver(): Promise<unknown> | undefined {
    keeper.handOver();
    return network?.handOver();
  }
  const introduced = async () => {
    const connection = await greet(ctx, boot, vmm);
    phases.end("agent answered");
    const { warnings } = await configureGuest(
      connection,
      await guestSettings(launch, network, ctx.starts.isBusy),
      deadline,
    );
    phases.end("guest configured");
    if (launch.role === "vm") await startServices(ctx, boot, { connection, held, phases });
    return { connection, warnings };
  };
  const introduction = introduced();
  let networkFailure: unknown;
  const connected = network?.ready.catch((error: unknown) => {
    networkFailure = error;
    throw error;
  });
  try {
    // Both at once: a network that cannot be is told of before a guest that stays silent.
    const [{ connection, warnings }] = await Promise.all([introduction, connected]);
    phases.end("network ready");
    return { runtimeDir, connection, warnings: [...(network?.warnings ?? []), ...warnings] };
  } catch (error) {
    if (error === networkFailure) await endVmm(ctx, vmId); // What waits for its guest ends with it.
    await Promise.allSettled([introduction, recorded]); // Nothing may be started while all of it is released.
    throw error === networkFailure ? error : await bootError(boot, { vmm, keeperPid: keeper.pid }, error);
  }
}

async function endVmm(ctx: VmContext, vmId: string): Promise<void> {
  const vmm = await liveProcess(ctx, vmId, VMM_ROLE);
  if (vmm !== undefined) await endProcessGroup(vmm);
}

/** A guest that goes on says nothing of a boot, and its log would begin in the middle. */
async function sayWhatItGoesOnFrom({ memory, spec }: Launch): Promise<void> {
  const { kind, id } = spec.origin;
  if (memory.from === "image") await appendToConsole(spec.directory, `${GO_ON_MARK} ${kind} ${id}\n`);
}

/** What the backend is to start. */
export function machineOf(
  { vmId, spec, memory }: Pick<Launch, "vmId" | "spec" | "memory">,
  runtimeDir: string,
  network: Pick<StartedNetwork, "device"> | undefined,
): MachineSpec {
  const { accelerator, vcpuCount, memSizeMib, kernelPath, initrdPath, bootArgs, disk, networkMode } = spec;
  const unplugged = { link: undefined, macAddress: UNPLUGGED_MAC };
  return {
    ...{ vmId, accelerator, vcpuCount, memSizeMib, kernelPath, initrdPath, bootArgs, disk, memory, runtimeDir },
    network: networkMode === "none" ? undefined : (network?.device ?? unplugged),
  };
}

/** A locally administered address that no VM ever has on a wire. */
const UNPLUGGED_MAC = "02:00:00:00:00:01";

async function startHelpers(
  ctx: VmContext,
  boot: Boot,
  hasNetwork: boolean,
): Promise<{ network: StartedNetwork | undefined; keeper: LogKeeper }> {
  const { vmId, spec, runtimeDir } = boot;
  const places = { logDir: spec.directory, runtimeDir };
  const keeperPath = helperPath("logkeeper"); // Before anything is started: it may not be there.
  const [network, keeper] = await Promise.allSettled([
    hasNetwork ? startNetwork(ctx, boot) : undefined,
    startLogKeeper(keeperPath, places),
  ]);
  if (keeper.status === "fulfilled") await recordProcess(ctx, { vmId, role: LOG_KEEPER_ROLE, pid: keeper.value.pid });
  if (network.status === "rejected" || keeper.status === "rejected") {
    if (keeper.status === "fulfilled") keeper.value.handOver();
    if (network.status === "fulfilled") await network.value?.handOver().catch(() => {});
    throw network.status === "rejected" ? network.reason : (keeper as PromiseRejectedResult).reason;
  }
  return { network: network.value, keeper: keeper.value };
}

async function startVmm(
  ctx: VmContext,
  { vmId, spec, deadline }: Boot,
  parts: {
    readonly machine: MachineSpec;
    readonly keeper: LogKeeper;
    readonly network: StartedNetwork | undefined;
  },
): Promise<StartedVmm> {
  const vmm = await backendFor(spec.backend).start(parts.machine, parts.keeper, deadline);
  const identity = await recordProcess(ctx, { vmId, role: VMM_ROLE, pid: vmm.pid });
  if (identity !== undefined) parts.network?.follow(identity);
  return vmm;
}

/** Waits for the agent's answer, or for the VMM's end, whichever comes first. */
async function greet(ctx: VmContext, { vmId, deadline }: Boot, vmm: StartedVmm): Promise<GuestConnection> {
  // Not AbortSignal.any: on Node.js 20 a long-lived signal, such as a pool's, remembers everything made of it.
  const over = new AbortController();
  const { signal } = deadline;
  const abort = () => over.abort(signal?.reason);
  signal?.addEventListener("abort", abort, { once: true });
  if (deadline.isAborted) abort();
  void vmm.ended.then((end) => over.abort(end));
  try {
    return await ctx.channels.adopt(vmId, vmm.ownLane, Deadline.after(deadline.remainingMs, over.signal));
  } finally {
    signal?.removeEventListener("abort", abort);
  }
}

/** What a frozen guest is called; no clone of it keeps any of this. */
const TEMPLATE_SETTINGS = {
  hostname: "smolvm-template",
  machineId: "0".repeat(32),
  env: {},
  isCopy: false,
  isWarmedUp: false,
} as const;

async function guestSettings(
  { vmId, spec, memory, role }: Launch,
  network: StartedNetwork | undefined,
  isBusy: boolean,
): Promise<GuestSettings> {
  if (role === "template") {
    // A key is given too, and thrown away: taking an image's own keys off the disk is then done once, not in each clone.
    // Likewise bringing up the interface, without an address.
    const blank = {
      addresses: [],
      gateways: [],
      dnsServers: [],
      dnsSearch: [],
      mtu: guestMtu(spec),
      macAddress: UNPLUGGED_MAC,
    };
    return {
      ...TEMPLATE_SETTINGS,
      growRoot: spec.growRoot,
      sshHostKey: makeOpenSshKey(),
      network: spec.networkMode === "none" ? undefined : blank,
    };
  }
  const isCopy = memory.from === "image";
  const [env, sshHostKey] = await Promise.all([readEnvironment(spec.directory), readSshHostKey(spec.directory)]);
  return {
    hostname: vmId,
    machineId: spec.machineId,
    env,
    network: network?.guest,
    growRoot: spec.growRoot && !isCopy,
    sshHostKey,
    isCopy,
    isWarmedUp: spec.origin.kind === "template" && !isBusy,
  };
}
