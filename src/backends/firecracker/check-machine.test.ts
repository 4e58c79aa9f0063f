import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { MachineSpec } from "../backend.js";
import { requireImage, requireKernel, requireSupported } from "./check-machine.js";
import { PLATFORMS } from "./platform.js";
import { machineIn, scratch } from "./testing/machines.js";

const macAddress = "02:00:00:00:00:02";

describe("what Firecracker does not have is refused", () => {
  test.each<[string, Partial<MachineSpec>]>([
    ["accel", { accelerator: "tcg" }],
    ["vcpuCount", { vcpuCount: 33 }],
    ["network", { network: { link: { kind: "socket", fd: 3 }, macAddress } }],
    ["bootArgs", { bootArgs: "x".repeat(2000) }],
    ["rootfsPath", { disk: { mode: "shared", path: "/disk.qcow2", format: "qcow2" } }],
  ])("%s", (field, change) => {
    const machine = machineIn(scratch(), change);
    expect(() => requireSupported(machine, PLATFORMS.x86_64)).toThrow(
      expect.objectContaining({ code: "UNSUPPORTED", details: expect.objectContaining({ field }) }),
    );
  });

  test.each<[string, Partial<MachineSpec>]>([
    ["32 vCPUs", { vcpuCount: 32 }],
    ["a TAP device", { network: { link: { kind: "tap", device: "tap0" }, macAddress } }],
    ["a device that nothing is behind", { network: { link: undefined, macAddress } }],
    ["a shared disk in format raw", { disk: { mode: "shared", path: "/disk", format: "raw" } }],
    ["a long command line", { bootArgs: "x".repeat(1600) }],
  ])("and not %s", (_what, change) => {
    expect(() => requireSupported(machineIn(scratch(), change), PLATFORMS.x86_64)).not.toThrow();
  });
});

describe("a kernel", () => {
  const elf = Buffer.concat([Buffer.from("\x7fELF", "latin1"), Buffer.alloc(60)]);
  const arm = Buffer.concat([Buffer.from("MZ"), Buffer.alloc(54), Buffer.from("ARM\x64", "latin1")]);

  test.each([
    ["x86_64", elf, arm],
    ["aarch64", arm, elf],
  ] as const)("of %s is known by its first bytes", async (architecture, right, wrong) => {
    const path = join(scratch(), "kernel");
    writeFileSync(path, right);
    await requireKernel(path, PLATFORMS[architecture]);
    writeFileSync(path, wrong);
    await expect(requireKernel(path, PLATFORMS[architecture])).rejects.toMatchObject({ code: "UNSUPPORTED" });
  });

  test("that is not there is named", async () => {
    await expect(requireKernel("/nonexistent/kernel", PLATFORMS.x86_64)).rejects.toMatchObject({
      code: "STORAGE_FAILED",
      details: { path: "/nonexistent/kernel" },
    });
  });
});

test("a file of an image that is not there is named", async () => {
  const path = join(scratch(), "memory");
  writeFileSync(path, "");
  await requireImage({ from: "image", path, devicesPath: path });
  await expect(requireImage({ from: "image", path, devicesPath: `${path}.gone` })).rejects.toMatchObject({
    code: "STORAGE_FAILED",
    details: { path: `${path}.gone` },
  });
});
