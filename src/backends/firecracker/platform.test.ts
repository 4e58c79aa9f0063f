import { expect, test } from "vitest";
import { kernelCommandLine, probeCommandLine } from "./kernel-command-line.js";
import { PLATFORMS } from "./platform.js";

test("x86_64: the console is ttyS0, and a restart by the keyboard controller ends the machine", () => {
  expect(kernelCommandLine(PLATFORMS.x86_64, "")).toBe(
    "console=ttyS0 quiet panic=-1 smolvm.poweroff=restart random.trust_cpu=on reboot=k i8042.noaux i8042.nomux i8042.dumbkbd smolvm.root=/dev/vda",
  );
  expect(PLATFORMS.x86_64.hasKeyboard).toBe(true);
});

test("aarch64: the console is ttyS0 too; there is no keyboard", () => {
  expect(kernelCommandLine(PLATFORMS.aarch64, "")).toBe(
    "console=ttyS0 quiet panic=-1 smolvm.poweroff=restart random.trust_cpu=on smolvm.root=/dev/vda",
  );
  expect(PLATFORMS.aarch64.hasKeyboard).toBe(false);
});

test.each(["x86_64", "aarch64"] as const)("%s: the user's arguments come last", (architecture) => {
  expect(kernelCommandLine(PLATFORMS[architecture], 'a="b c"')).toMatch(/ smolvm\.root=\/dev\/vda a="b c"$/);
});

test.each(["x86_64", "aarch64"] as const)("%s: a trial has no root", (architecture) => {
  const line = probeCommandLine(PLATFORMS[architecture]);
  expect(line).toMatch(/ smolvm\.probe=1$/);
  expect(line).not.toContain("smolvm.root");
});
