import { describe, expect, test } from "vitest";
import type { MachineDisk, MachineSpec } from "../backend.js";
import { shapeOf } from "./shape.js";

const machine: MachineSpec = {
  vmId: "a1",
  accelerator: "tcg",
  vcpuCount: 2,
  memSizeMib: 512,
  kernelPath: "/images/vmlinux",
  initrdPath: "/images/initramfs",
  bootArgs: "",
  disk: {
    mode: "isolated",
    path: "/vms/a1/disk",
    layers: [],
    basePath: "/images/rootfs",
    baseFormat: "raw",
    sizeBytes: 2 ** 30,
  },
  memory: { from: "boot" },
  network: { link: { kind: "socket", fd: 9 }, macAddress: "52:54:00:12:34:56" },
  runtimeDir: "/run/a1",
};
const disk = (changes: object) => ({ disk: { ...machine.disk, ...changes } as MachineDisk });

const same: readonly [string, Partial<MachineSpec>][] = [
  ["id", { vmId: "b2" }],
  ["runtime directory", { runtimeDir: "/run/b2" }],
  ["kernel's path", { kernelPath: "/else" }],
  ["initramfs's path", { initrdPath: "/else" }],
  ["disk's path", disk({ path: "/vms/b2/disk" })],
  ["base's path", disk({ basePath: "/else", baseFormat: "qcow2" })],
  ["frozen layers", disk({ layers: ["/one", "/two"] })],
  ["recorded memory", { memory: { from: "recording", path: "/m" } }],
  ["memory from an image", { memory: { from: "image", path: "/m", devicesPath: "/d" } }],
  ["network's link", { network: { link: { kind: "tap", device: "svm5" }, macAddress: "52:54:00:12:34:56" } }],
  ["network's address", { network: { link: { kind: "socket", fd: 9 }, macAddress: "52:54:00:00:00:09" } }],
];

const different: readonly [string, Partial<MachineSpec>][] = [
  ["accelerator", { accelerator: "kvm" }],
  ["vCPUs", { vcpuCount: 3 }],
  ["memory", { memSizeMib: 513 }],
  ["boot arguments", { bootArgs: "quiet" }],
  ["disk's size", disk({ sizeBytes: 2 ** 30 + 512 })],
  ["kind of disk", { disk: { mode: "shared", path: "/vms/a1/disk", format: "raw" } }],
  ["network device", { network: undefined }],
];

describe("a machine's shape", () => {
  test.each(same)("is the same for another %s", (_what, changes) => {
    expect(shapeOf({ ...machine, ...changes })).toBe(shapeOf(machine));
  });

  test("is different for each thing that shapes it", () => {
    const shapes = [machine, ...different.map(([, changes]) => ({ ...machine, ...changes }))].map(shapeOf);
    expect(new Set(shapes).size).toBe(shapes.length);
  });

  test("has the processor of the host where that is the guest's", () => {
    const lines = (accelerator: MachineSpec["accelerator"]) => shapeOf({ ...machine, accelerator }).split("\n").length;
    expect(lines("kvm")).toBeGreaterThan(lines("tcg"));
  });

  test("says nothing of the VM's own files", () => {
    expect(shapeOf(machine)).not.toMatch(/a1|\/images|\/vms|\/run|12:34:56/);
  });
});
