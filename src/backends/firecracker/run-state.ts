// Stops and continues the vCPUs of a running machine.

import type { Deadline } from "../../base/deadline.js";
import { isSmolVMError } from "../../errors/smolvm-error.js";
import { ApiClient } from "./api/client.js";
import { createSnapshot, getInstance, pauseVm, resumeVm } from "./api/requests.js";
import { apiSocket, NAMES } from "./places.js";

/** First version whose `Resumed` leaves the vsock as it was (Firecracker's CHANGELOG.md, #6100). */
const LEAVES_VSOCK = [1, 16, 2] as const;

/** A short conversation with a VMM. */
export async function withClient<T>(runtimeDir: string, talk: (client: ApiClient) => Promise<T>): Promise<T> {
  const client = new ApiClient(apiSocket(runtimeDir));
  try {
    return await talk(client);
  } finally {
    client.close();
  }
}

/** See {@link Backend.pause}. */
export async function pauseMachine(runtimeDir: string, deadline: Deadline): Promise<void> {
  await withClient(runtimeDir, (client) => client.call(pauseVm(), deadline));
}

/** See {@link Backend.resume}. */
export async function resumeMachine(runtimeDir: string, deadline: Deadline): Promise<void> {
  await withClient(runtimeDir, (client) => letRun(client, deadline));
}

/** Lets a machine run that may run already: then nothing is sent. */
export async function letRun(client: ApiClient, deadline: Deadline): Promise<void> {
  const { state, vmmVersion } = await client.call(getInstance(), deadline);
  if (state !== "Paused") return;
  if (closesVsock(vmmVersion)) await announceReset(client, deadline);
  await client.call(resumeVm(), deadline);
}

/**
 * Until 1.16.1, a machine that goes on gets nothing more from its vsock before its guest has confirmed that the vsock was
 * reset, and is only told of a reset when a snapshot is made (src/vmm/src/devices/virtio/vsock/device.rs, `kick` and
 * `prepare_save`): without one, no lane works any more.
 */
export function closesVsock(version: string): boolean {
  const numbers = version.split(/[^0-9]/).map(Number);
  for (const [index, part] of LEAVES_VSOCK.entries()) {
    const found = numbers[index] ?? 0;
    if (found !== part) return found < part;
  }
  return false;
}

/**
 * Begins a snapshot, which tells the guest, to a file that cannot be: the directory itself. The state is collected
 * before the file is opened, and nothing is written.
 */
async function announceReset(client: ApiClient, deadline: Deadline): Promise<void> {
  const nowhere = { snapshotPath: ".", memFilePath: NAMES.savedMemory };
  try {
    await client.call(createSnapshot(nowhere, 0), deadline);
  } catch (error) {
    if (!isSmolVMError(error, "STORAGE_FAILED")) throw error;
  }
}
