// TAP devices: made with `ip`, set by way of /proc/sys, removed. A device is made only under a name that nobody has, and
// carries nothing before it is up.

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { Deadline } from "../../base/deadline.js";
import { pollUntil } from "../../base/sleep.js";
import { isSmolVMError, SmolVMError } from "../../errors/smolvm-error.js";
import { runProgram } from "../../host/process.js";
import { addressesOf, GATEWAY_MAC, TAP_MTU_BYTES } from "./addresses.js";
import { networkFailed } from "./network-failed.js";
import { readRoutes } from "./uplinks.js";

/** What a device is made for. */
export interface DeviceRequest {
  /** Of its lease. */
  readonly index: number;
  /** Whoever runs the VMM: it may open the device. */
  readonly ownerUid: number;
}

/**
 * Settings below /proc/sys/net, written while the device is down; `all` can only make some of them stricter.
 * From ip-sysctl.rst of the kernel: forward what comes from it, only from addresses that are routed to it; answer and ask
 * by ARP only with the device's own address; no redirects either way, no loopback addresses, no IPv6.
 */
const SETTINGS: readonly (readonly [path: string, value: string])[] = [
  ["ipv4/conf/DEVICE/forwarding", "1"],
  ["ipv4/conf/DEVICE/rp_filter", "1"],
  ["ipv4/conf/DEVICE/arp_ignore", "2"],
  ["ipv4/conf/DEVICE/arp_announce", "2"],
  ["ipv4/conf/DEVICE/arp_accept", "0"],
  ["ipv4/conf/DEVICE/proxy_arp", "0"],
  ["ipv4/conf/DEVICE/accept_redirects", "0"],
  ["ipv4/conf/DEVICE/send_redirects", "0"],
  ["ipv4/conf/DEVICE/accept_source_route", "0"],
  ["ipv4/conf/DEVICE/accept_local", "0"],
  ["ipv4/conf/DEVICE/route_localnet", "0"],
  ["ipv6/conf/DEVICE/accept_ra", "0"],
  ["ipv6/conf/DEVICE/disable_ipv6", "1"],
];

/** Settings without which packets of guests pass that must not, or do not pass that should. */
const ESSENTIAL = ["forwarding", "proxy_arp", "route_localnet", "disable_ipv6"];
/** Bound of the removal of a device that could not be set up, in milliseconds. */
const CLEANUP_MS = 10_000;

/** True when there is a device of this name, whoever made it, in this network namespace. */
export function hasDevice(index: number): boolean {
  // Other than /sys/class/net, this follows the network namespace of who asks.
  return existsSync(`/proc/sys/net/ipv4/conf/${addressesOf(index).device}`);
}

/**
 * True when the device is there and up, and whoever switches routing off and on has not undone its settings. Others have
 * their own opinion of some: systemd writes rp_filter when it hears of a new device.
 */
export function isDeviceReady(index: number): boolean {
  // While a device is down the kernel has no route to its network. This, too, follows the namespace of who asks.
  const { device } = addressesOf(index);
  if (!hasDevice(index) || !readRoutes().some((route) => route.device === device)) return false;
  const essential = settingsOf(index).filter(([path]) => ESSENTIAL.some((name) => path.endsWith(`/${name}`)));
  return essential.every(([path, value]) => {
    try {
      return readFileSync(path, "latin1").trim() === value;
    } catch {
      return path.includes("/ipv6/"); // A kernel without IPv6.
    }
  });
}

/**
 * Makes a device with its settings. It stays down: nothing passes before {@link bringUp}.
 *
 * @returns False when somebody has a device of this name; it was not touched.
 * @throws {NETWORK_FAILED} when the kernel refuses; nothing is left then. @throws {HOST_UNSUPPORTED} without `ip`.
 * @throws {TIMEOUT} {ABORTED}
 */
export async function makeDevice(request: DeviceRequest, deadline: Deadline): Promise<boolean> {
  if (hasDevice(request.index)) return false;
  const action = `Cannot make the TAP device "${addressesOf(request.index).device}"`;
  try {
    await runIp(creationOf(request), deadline);
  } catch (error) {
    // Between our look and the first command somebody may have made one.
    if (failedCommand(error) === 1) {
      if (hasDevice(request.index)) return false;
    } else await cleanUp(request.index);
    throw failure(action, error);
  }
  try {
    applySettings(request.index);
  } catch (error) {
    await cleanUp(request.index);
    throw error;
  }
  return true;
}

/** Whatever has ended the set-up does not end this. */
async function cleanUp(index: number): Promise<void> {
  await removeDevice(index, Deadline.after(CLEANUP_MS)).catch(() => {});
}

/** Lets packets pass. @throws {NETWORK_FAILED} {TIMEOUT} {ABORTED} */
export function bringUp(index: number, deadline: Deadline): Promise<void> {
  return switchDevice(index, "up", deadline);
}

/** Lets none pass. @throws {NETWORK_FAILED} {TIMEOUT} {ABORTED} */
export function bringDown(index: number, deadline: Deadline): Promise<void> {
  return switchDevice(index, "down", deadline);
}

async function switchDevice(index: number, state: "up" | "down", deadline: Deadline): Promise<void> {
  const { device } = addressesOf(index);
  try {
    await runIp([`link set dev ${device} ${state}`], deadline);
  } catch (error) {
    throw failure(`Cannot bring ${state} the TAP device "${device}"`, error);
  }
}

/** Writes the settings again, for a device that {@link isDeviceReady} has found wrong. @throws {NETWORK_FAILED} */
export function applySettings(index: number): void {
  for (const [path, value] of settingsOf(index)) {
    try {
      writeFileSync(path, value);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT" && path.includes("/ipv6/")) continue;
      throw networkFailed(`Cannot write "${value}" to "${path}"`, error);
    }
  }
}

/**
 * Removes a device, and waits until nobody sees it any more. One that has gone needs nothing.
 *
 * The kernel lets `ip` wait for some 20 ms longer, until all processors have forgotten the device. Nobody depends on that.
 *
 * @throws {NETWORK_FAILED} {TIMEOUT} {ABORTED}
 */
export async function removeDevice(index: number, deadline: Deadline): Promise<void> {
  if (!hasDevice(index)) return;
  const { device } = addressesOf(index);
  let hasEnded = false;
  const ended = runIp([`link del dev ${device}`], deadline)
    .catch((error: unknown) => {
      if (hasDevice(index)) throw failure(`Cannot remove the TAP device "${device}"`, error);
    })
    .finally(() => {
      hasEnded = true;
    });
  const look = () => (hasEnded || !hasDevice(index) ? true : undefined);
  const vanished = pollUntil(look, deadline, LONGEST_PAUSE_MS);
  await Promise.race([ended, vanished.then(() => (hasDevice(index) ? ended : undefined))]);
}

/** Longest pause between two looks, in milliseconds. A device is gone after 1 to 2 ms. */
const LONGEST_PAUSE_MS = 2;

function creationOf({ index, ownerUid }: DeviceRequest): readonly string[] {
  const { device, gateway, prefix } = addressesOf(index);
  return [
    `tuntap add dev ${device} mode tap user ${ownerUid} vnet_hdr`,
    `link set dev ${device} address ${GATEWAY_MAC} mtu ${TAP_MTU_BYTES}`,
    `address add ${gateway}/${prefix} dev ${device}`,
  ];
}

function settingsOf(index: number): readonly (readonly [path: string, value: string])[] {
  const { device } = addressesOf(index);
  return SETTINGS.map(([path, value]) => [`/proc/sys/net/${path.replace("DEVICE", device)}`, value]);
}

async function runIp(commands: readonly string[], deadline: Deadline): Promise<void> {
  await runProgram(["ip", "-batch", "-"], {
    stdin: `${commands.join("\n")}\n`,
    timeoutMs: deadline.remainingMs,
    signal: deadline.signal,
  });
}

/** Which command of a batch `ip` says it stopped at, from 1. */
function failedCommand(error: unknown): number | undefined {
  const stderr = isSmolVMError(error, "HOST_COMMAND_FAILED") ? String(error.details["stderr"]) : "";
  const number = /Command failed -:(\d+)/.exec(stderr)?.[1];
  return number === undefined ? undefined : Number(number);
}

/** What `ip` refused is a failure of the network; everything else is told as it is. */
function failure(action: string, error: unknown): unknown {
  if (!isSmolVMError(error, "HOST_COMMAND_FAILED")) return error;
  const stderr = String(error.details["stderr"]);
  return new SmolVMError("NETWORK_FAILED", `${action}: ${stderr.split("\n", 1)[0]}`, {
    details: { stderr },
    cause: error,
  });
}
