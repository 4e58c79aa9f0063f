// Through which devices of others the packets of guests leave and their answers come back, and whether the host forwards
// on them.

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import type { Ipv4Range } from "../ipv4.js";
import { DEVICE_PREFIX } from "./addresses.js";
import { doRangesOverlap, type Ipv4Ranges } from "./ipv4-ranges.js";
import { networkFailed } from "./network-failed.js";

/** One row of the kernel's table of routes. */
export interface Route {
  readonly device: string;
  readonly destination: Ipv4Range;
}

/** Bit of a route that is usable (RTF_UP of linux/route.h). */
const ROUTE_IS_UP = 1;

/** The routes in the text of `/proc/net/route`: numbers in hexadecimal, addresses in the byte order of the machine. */
export function parseRoutes(text: string): readonly Route[] {
  return text
    .split("\n")
    .slice(1)
    .map((line) => line.split(/\s+/))
    .flatMap(([device = "", destination = "", , flags = "0", , , , mask = ""]): Route[] => {
      if (mask === "" || (Number.parseInt(flags, 16) & ROUTE_IS_UP) === 0) return [];
      const first = littleEndian(destination);
      return [{ device, destination: { first, last: first + (2 ** 32 - 1 - littleEndian(mask)) } }];
    });
}

/** The devices that lead to some of these addresses, ours and the loopback left out, each once. */
export function uplinksTo(reachable: Ipv4Ranges, routes: readonly Route[]): readonly string[] {
  const devices = routes
    .filter(({ device }) => device !== "lo" && !device.startsWith(DEVICE_PREFIX))
    .filter(({ destination }) => doRangesOverlap([destination], reachable))
    .map(({ device }) => device);
  return [...new Set(devices)];
}

/** The routes of this network namespace. */
export function readRoutes(): readonly Route[] {
  return parseRoutes(readFileSync("/proc/self/net/route", "latin1"));
}

/** Whether the host is a router already: then every device forwards, and new ones will. */
export function isRouter(): boolean {
  return readFileSync("/proc/sys/net/ipv4/ip_forward", "latin1").trim() === "1";
}

/** Whether the host forwards what comes from a device; false also for one that is not there. */
export function isForwardingFrom(device: string): boolean {
  const path = forwardingPath(device);
  return existsSync(path) && readFileSync(path, "latin1").trim() === "1";
}

/** Makes the host forward what comes from a device, or not. A device that has gone needs nothing. */
export function setForwardingFrom(device: string, isOn: boolean): void {
  try {
    writeFileSync(forwardingPath(device), isOn ? "1" : "0");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
    throw networkFailed(`Cannot switch forwarding from "${device}" ${isOn ? "on" : "off"}`, error);
  }
}

/** A dot in a device's name stays one in a path, unlike in sysctl(8). */
function forwardingPath(device: string): string {
  return `/proc/sys/net/ipv4/conf/${device}/forwarding`;
}

function littleEndian(hex: string): number {
  return Buffer.from(hex, "hex").readUInt32LE();
}
