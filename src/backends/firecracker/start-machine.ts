// Starts a VMM and configures its machine until the guest's vCPUs run. A start that fails leaves nothing.

import { existsSync } from "node:fs";
import { rm, symlink } from "node:fs/promises";
import { Deadline } from "../../base/deadline.js";
import { fileError } from "../../errors/file-error.js";
import { isSmolVMError, SmolVMError } from "../../errors/smolvm-error.js";
import { throwIfAborted } from "../../errors/wait-errors.js";
import type { FoundFirecracker } from "../../host/firecracker/find-firecracker.js";
import type { Confinement, MachineMemory, MachineSpec, StartedVmm, VmmOutputs } from "../backend.js";
import { ApiClient } from "./api/client.js";
import { type ApiRequest, getInstance } from "./api/requests.js";
import { requireImage, requireKernel, requireSupported } from "./check-machine.js";
import { startRequests } from "./configuration.js";
import { makeFile } from "./disk-copy.js";
import { AGENT_PORT } from "./features.js";
import { LateLane } from "./late-lane.js";
import { filesOf } from "./machine-files.js";
import { apiSocket, recordingLink, vmmDirectory, vsockSocket } from "./places.js";
import type { Platform } from "./platform.js";
import { removeVmmDirectory } from "./release.js";
import { withClient } from "./run-state.js";
import { spawnVmm, undoSpawn, type VmmProcess, type VmmRequest } from "./spawn-vmm.js";
import { connectToAgent } from "./vsock.js";

/** How long a failed start may take to be undone, in milliseconds. */
const UNDO_LIMIT_MS = 10_000;

/** What a start needs beside the machine. */
export interface StartContext {
  readonly found: FoundFirecracker;
  readonly platform: Platform;
  readonly confinement: Confinement;
  readonly jailsDir: string;
}

/**
 * See {@link Backend.start}. The own lane connects once the agent listens; a guest without one runs all the same.
 *
 * @throws {UNSUPPORTED} before anything is done.
 * @throws {BOOT_FAILED} {SNAPSHOT_FAILED} {STORAGE_FAILED} {NETWORK_FAILED} {HOST_UNSUPPORTED} {TIMEOUT} {ABORTED}
 */
export async function startMachine(
  machine: MachineSpec,
  context: StartContext,
  outputs: VmmOutputs,
  deadline: Deadline,
): Promise<StartedVmm> {
  throwIfAborted("Start of a VMM", deadline.signal);
  requireSupported(machine, context.platform);
  if (machine.memory.from !== "image") await requireKernel(machine.kernelPath, context.platform);
  await requireImage(machine.memory);
  const { runtimeDir, memory } = machine;
  await requireNoOther(runtimeDir, deadline);
  if (memory.from === "recording") await makeFile(memory.path);
  try {
    if (memory.from === "recording") await link(memory.path, recordingLink(runtimeDir));
    const request = { ...context, machine, files: filesOf(machine) };
    const vmm = await runVmm(request, startRequests(machine, context.platform), outputs, deadline);
    vmm.letGo();
    return { pid: vmm.pid, ended: vmm.ended, ownLane: ownLane(runtimeDir, vmm, deadline) };
  } catch (error) {
    await undoMemory(runtimeDir, memory);
    throw error;
  }
}

/** Starts a VMM and sends it all requests, the last of which makes its guest run. @throws {BOOT_FAILED} when it ends meanwhile, or what a refusal means. */
export async function runVmm(
  request: VmmRequest,
  requests: readonly ApiRequest[],
  outputs: VmmOutputs,
  deadline: Deadline,
): Promise<VmmProcess> {
  const { runtimeDir } = request.machine;
  let vmm: VmmProcess | undefined;
  const client = new ApiClient(apiSocket(runtimeDir));
  try {
    vmm = await spawnVmm(request, outputs, deadline);
    await client.greet(deadline, vmm.hasEnded);
    await send(client, requests.slice(0, -1), deadline);
    await vmm.settle(deadline); // Before there is a guest that could take the VMM over.
    await send(client, requests.slice(-1), deadline);
    return vmm;
  } catch (error) {
    const reason = await reasonOf(error, vmm);
    await undoSpawn(runtimeDir, vmm, Deadline.after(UNDO_LIMIT_MS));
    throw reason;
  } finally {
    client.close();
  }
}

async function send(client: ApiClient, requests: readonly ApiRequest[], deadline: Deadline): Promise<void> {
  for (const request of requests) await client.call(request, deadline.atMost(request.limitMs));
}

/** That a VMM hung up means that it has ended; how says more. */
async function reasonOf(error: unknown, vmm: VmmProcess | undefined): Promise<unknown> {
  if (vmm === undefined || !isSmolVMError(error, "CHANNEL_CLOSED")) return error;
  const { exitCode, signal } = await vmm.ended;
  const how = signal === null ? `exited with ${exitCode}` : `was killed by ${signal}`;
  return new SmolVMError("BOOT_FAILED", `Firecracker ${how} before its machine ran: ${error.message}`, {
    details: { ...error.details, exitCode, signal },
    cause: error,
  });
}

function ownLane(runtimeDir: string, vmm: VmmProcess, deadline: Deadline): LateLane {
  const address = { socketPath: vsockSocket(runtimeDir), port: AGENT_PORT };
  // Who starts a machine waits for its agent no longer than for the start.
  const lane = new LateLane((signal) => connectToAgent(address, Deadline.after(deadline.remainingMs, signal)));
  void vmm.ended.then(() => lane.destroy());
  return lane;
}

/** What an earlier VMM has left in the runtime directory goes; one that is still there stays. @throws {BUSY} */
async function requireNoOther(runtimeDir: string, deadline: Deadline): Promise<void> {
  const path = vmmDirectory(runtimeDir);
  if (!existsSync(path)) return;
  if (await answers(runtimeDir, deadline)) {
    throw new SmolVMError("BUSY", `Cannot start a VMM in "${runtimeDir}": another one runs there`, {
      details: { path },
    });
  }
  await removeVmmDirectory(runtimeDir, deadline);
}

async function answers(runtimeDir: string, deadline: Deadline): Promise<boolean> {
  try {
    await withClient(runtimeDir, (client) => client.call(getInstance(), deadline.atMost(getInstance().limitMs)));
    return true;
  } catch (error) {
    if (isSmolVMError(error, "CHANNEL_CLOSED")) return false;
    throw error;
  }
}

async function link(target: string, path: string): Promise<void> {
  try {
    await symlink(target, path);
  } catch (error) {
    throw fileError("Recording where a machine's memory will be", path, error);
  }
}

async function undoMemory(runtimeDir: string, memory: MachineMemory): Promise<void> {
  await rm(recordingLink(runtimeDir), { force: true }).catch(() => {});
  if (memory.from === "recording") await rm(memory.path, { force: true }).catch(() => {});
}
