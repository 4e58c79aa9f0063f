// The rate of the host's time stamp counter, which is also the emulated guest's.

import { readFileSync } from "node:fs";

/**
 * The rate in kHz. Linux on x86 prints twice the counter's MHz as `bogomips`
 * (arch/x86/kernel/tsc.c presets loops_per_jiffy from tsc_khz).
 *
 * @returns `undefined` where it is not known.
 */
export function hostTscKhz(): number | undefined {
  try {
    return parseTscKhz(readFileSync("/proc/cpuinfo", "latin1"));
  } catch {
    return undefined;
  }
}

/** Reads the rate out of the text of `/proc/cpuinfo`. */
export function parseTscKhz(cpuinfo: string): number | undefined {
  const hasConstantTsc = /^flags\s*:.*\bconstant_tsc\b/m.test(cpuinfo);
  const bogomips = /^bogomips\s*:\s*([\d.]+)/m.exec(cpuinfo)?.[1];
  if (!hasConstantTsc || bogomips === undefined) return undefined;
  return Math.round((Number(bogomips) / 2) * 1000);
}
