import { describe, expect, test } from "vitest";
import { hostTscKhz, parseTscKhz } from "./host-tsc.js";
import { kernelCommandLine, probeCommandLine } from "./kernel-command-line.js";

const COMMON = "console=ttyS0 quiet panic=-1 reboot=t smolvm.poweroff=restart random.trust_cpu=on";

describe("the kernel command line", () => {
  test("with hardware help is the same everywhere", () => {
    for (const accelerator of ["kvm", "hvf"] as const) {
      expect(kernelCommandLine({ accelerator, bootArgs: "" })).toBe(`${COMMON} smolvm.root=/dev/vda`);
      expect(probeCommandLine(accelerator)).toBe(`${COMMON} smolvm.probe=1`);
    }
  });

  test("in emulation has no mitigations, and the clock's rate where it is known", () => {
    const khz = hostTscKhz();
    const clock = khz === undefined ? "" : ` tsc_early_khz=${khz}`;
    expect(kernelCommandLine({ accelerator: "tcg", bootArgs: "" })).toBe(
      `${COMMON} mitigations=off tsc=nowatchdog${clock} smolvm.root=/dev/vda`,
    );
  });

  test("ends with the user's arguments, which win", () => {
    expect(kernelCommandLine({ accelerator: "kvm", bootArgs: "panic=0 quiet=no" })).toMatch(/ panic=0 quiet=no$/);
  });

  test("has no empty words", () => {
    expect(kernelCommandLine({ accelerator: "tcg", bootArgs: "" })).not.toMatch(/ {2}|^ | $/);
  });
});

describe("the rate of the time stamp counter", () => {
  const cpuinfo = (flags: string, bogomips: string) => `processor\t: 0\nflags\t\t: ${flags}\n${bogomips}\n\n`;

  test.each([
    ["a desktop", cpuinfo("fpu constant_tsc nonstop_tsc", "bogomips\t: 5999.98"), 2_999_990],
    ["a round one", cpuinfo("constant_tsc", "bogomips\t: 4200.00"), 2_100_000],
    [
      "many processors: the first counts",
      `${cpuinfo("constant_tsc", "bogomips : 100.00")}${cpuinfo("constant_tsc", "bogomips : 200.00")}`,
      50_000,
    ],
    ["a counter that is not constant", cpuinfo("fpu tsc", "bogomips\t: 5999.98"), undefined],
    [
      "a flag that only looks like it",
      cpuinfo("not_constant_tsc_at_all constant_tsc2", "bogomips\t: 5999.98"),
      undefined,
    ],
    ["no rate", cpuinfo("constant_tsc", ""), undefined],
    ["an ARM host", "processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd\n", undefined],
    ["nothing", "", undefined],
  ])("of %s", (_what, text, khz) => {
    expect(parseTscKhz(text)).toBe(khz);
  });
});
