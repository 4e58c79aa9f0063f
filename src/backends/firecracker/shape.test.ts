import { expect, test } from "vitest";
import type { MachineSpec } from "../backend.js";
import { PLATFORMS } from "./platform.js";
import { shapeOf } from "./shape.js";
import { machineIn, scratch } from "./testing/machines.js";

const macAddress = "02:00:00:00:00:02";
const disk = {
  mode: "isolated" as const,
  path: "/d",
  layers: [],
  basePath: "/b",
  baseFormat: "raw" as const,
  sizeBytes: 2 ** 20,
};
const machine: MachineSpec = {
  ...{
    vmId: "a1",
    accelerator: "kvm",
    vcpuCount: 2,
    memSizeMib: 128,
    kernelPath: "/k",
    initrdPath: "/i",
    bootArgs: "",
  },
  ...{ disk, memory: { from: "boot" }, network: undefined, runtimeDir: "/r" },
};
const shape = (changes: Partial<MachineSpec> = {}) => shapeOf({ ...machine, ...changes }, PLATFORMS.x86_64);
const network = { link: undefined, macAddress };

test.each<[string, Partial<MachineSpec>]>([
  ["vCPUs", { vcpuCount: 3 }],
  ["memory", { memSizeMib: 129 }],
  ["boot arguments", { bootArgs: "quiet" }],
  ["a network", { network }],
  ["the disk's size", { disk: { ...disk, sizeBytes: 2 ** 21 } }],
  ["a shared disk", { disk: { mode: "shared", path: "/d", format: "raw" } }],
])("another machine by %s", (_what, change) => {
  expect(shape(change)).not.toBe(shape());
});

test("the same machine, whoever's files it has and whatever is behind its network", () => {
  const other = machineIn(scratch());
  expect(shape({ ...other, vmId: "b2", memory: { from: "recording", path: "/m" } })).toBe(shape());
  const plugged = { link: { kind: "tap" as const, device: "svm1" }, macAddress: "02:00:00:00:00:07" };
  expect(shape({ network: plugged })).toBe(shape({ network }));
});

test("another machine by architecture", () => {
  expect(shapeOf(machine, PLATFORMS.aarch64)).not.toBe(shape());
});
