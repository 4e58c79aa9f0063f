// Is there memory for a guest of the default size?

import { readFile } from "node:fs/promises";
import { freemem } from "node:os";
import type { CheckResult, HostCheck } from "./check.js";

/** A default guest and its VMM, in MiB. */
const ONE_GUEST_MIB = 640;
/** What a few guests at once want, in MiB. */
const COMFORTABLE_MIB = 2_048;

/** Memory that is available now. */
export const memoryCheck: HostCheck = { id: "memory", title: "Memory", requiredFor: "run", run: checkMemory };

async function checkMemory(): Promise<CheckResult> {
  const availableMib = parseAvailableMib(await readFile("/proc/meminfo", "utf8").catch(() => "")) ?? freeMib();
  const found = `${availableMib} MiB available`;
  if (availableMib >= COMFORTABLE_MIB) return { status: "ok", found };
  const status = availableMib < ONE_GUEST_MIB ? "fail" : "warn";
  return { status, found, remedy: "Free some memory, or give guests less with `memSizeMib`." };
}

/** `MemAvailable` of /proc/meminfo (proc(5)), in MiB. */
export function parseAvailableMib(meminfo: string): number | undefined {
  const match = /^MemAvailable:\s+(\d+) kB$/m.exec(meminfo);
  return match === null ? undefined : Math.floor(Number(match[1]) / 1024);
}

function freeMib(): number {
  return Math.floor(freemem() / 1024 ** 2);
}
