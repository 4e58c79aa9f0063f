// A machine's device state as a file: what QEMU itself knows of the guest, without its memory.

import { open, rm } from "node:fs/promises";
import type { Deadline } from "../../base/deadline.js";
import { fileError } from "../../errors/file-error.js";
import { isSmolVMError, SmolVMError } from "../../errors/smolvm-error.js";
import { QmpSession } from "./qmp-session.js";

/**
 * Makes an empty file that only this user can read.
 *
 * @throws {STORAGE_FAILED} also when there is one already.
 */
export async function makeFile(path: string): Promise<void> {
  try {
    await (await open(path, "wx", 0o600)).close();
  } catch (error) {
    throw fileError("Creating a file of a machine's image", path, error);
  }
}

/**
 * Saves the device state of a machine that stands still, to a file that exists.
 *
 * QEMU made this command for another hypervisor and offers it always (qapi/migration.json). Unlike `migrate` it leaves
 * the memory out, whatever it is, and needs neither capabilities nor a channel.
 */
export async function saveDevices(session: QmpSession, path: string, deadline: Deadline): Promise<void> {
  try {
    // Not `live`: QEMU would give up its disks when the machine is paused.
    await session.execute({ execute: "xen-save-devices-state", arguments: { filename: path, live: false } }, deadline);
  } catch (error) {
    if (!isSmolVMError(error, "INTERNAL")) throw error;
    throw new SmolVMError("STORAGE_FAILED", `Saving the device state failed at "${path}": ${error.message}`, {
      details: { ...error.details, path },
      cause: error,
    });
  }
}

/** See {@link Backend.freeze}. */
export async function freezeMachine(monitorPath: string, devicesPath: string, deadline: Deadline): Promise<void> {
  const session = await QmpSession.open(monitorPath, deadline);
  try {
    await makeFile(devicesPath);
    try {
      // Stopping also writes to the disk's layer what QEMU has of it in memory (softmmu/cpus.c, do_vm_stop).
      await session.execute({ execute: "stop" }, deadline);
      await saveDevices(session, devicesPath, deadline);
    } catch (error) {
      await rm(devicesPath, { force: true });
      throw error;
    }
  } finally {
    session.close();
  }
}
