// Does the host have a way out? passt takes the interface of the IPv4 default route and refuses to start without one.

import { readFile } from "node:fs/promises";
import type { CheckContext, CheckResult, HostCheck } from "./check.js";

/** The route that the default network takes. */
export const defaultRouteCheck: HostCheck = {
  id: "default-route",
  title: "IPv4 default route",
  requiredFor: "network",
  run: checkDefaultRoute,
};

async function checkDefaultRoute({ platform }: CheckContext): Promise<CheckResult> {
  if (platform !== "linux") return { status: "fail", found: "the default network exists on Linux only" };
  const device = parseDefaultRoute(await readFile("/proc/net/route", "latin1"));
  if (device !== undefined) return { status: "ok", found: `by ${device}` };
  return {
    status: "fail",
    found: "there is none",
    remedy: 'Connect the host to a network, or create VMs with network "tap" (root) or "none".',
  };
}

/** The device of the default route in the text of `/proc/net/route`: destination and mask are zero. */
export function parseDefaultRoute(text: string): string | undefined {
  const rows = text.split("\n").map((line) => line.split(/\s+/));
  return rows.find(([, destination, , , , , , mask]) => destination === "00000000" && mask === "00000000")?.[0];
}
