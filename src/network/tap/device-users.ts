// Who has a TAP device open, whatever state the device is in.

import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { networkInterfaces } from "node:os";
import { TUN_DEVICE } from "./require-tap-host.js";

/**
 * Whether a VMM uses a device, as far as this program may see. Node.js lists interfaces that are running, and a TAP runs
 * while somebody has it open; one that is down runs for nobody, and is looked for among the files of all processes.
 */
export function isDeviceInUse(device: string): boolean {
  return networkInterfaces()[device] !== undefined || listProcesses().some((pid) => hasOpen(pid, device));
}

function listProcesses(): readonly string[] {
  return readdirSync("/proc").filter((name) => /^\d+$/.test(name));
}

function hasOpen(pid: string, device: string): boolean {
  return read(() => readdirSync(`/proc/${pid}/fd`), []).some((fd) => {
    if (read(() => readlinkSync(`/proc/${pid}/fd/${fd}`), "") !== TUN_DEVICE) return false;
    // The kernel's tun_chr_show_fdinfo.
    const info = read(() => readFileSync(`/proc/${pid}/fdinfo/${fd}`, "latin1"), "");
    return /^iff:\s*(.*)$/m.exec(info)?.[1] === device;
  });
}

/** Processes end while they are looked at, and those of others may be closed to this one. */
function read<T>(look: () => T, otherwise: T): T {
  try {
    return look();
  } catch {
    return otherwise;
  }
}
