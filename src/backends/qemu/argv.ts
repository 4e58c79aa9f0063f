// The QEMU command line for a machine, as data in and argv out. Paths that come from users go into JSON options,
// where a comma is just a comma.

import { join } from "node:path";
import type { Accelerator, DiskFormat, MachineDisk, MachineSpec } from "../backend.js";
import { QEMU_LANES } from "./features.js";
import { kernelCommandLine } from "./kernel-command-line.js";

/** Name of the monitor's socket in the runtime directory. */
export const MONITOR_SOCKET = "qmp";

/** Name of a lane's socket in the runtime directory. */
export function laneSocket(lane: number): string {
  return `lane${lane}`;
}

/** The machine without its sockets, disk and network: enough to boot a kernel. */
interface BareMachine {
  readonly accelerator: Accelerator;
  readonly vcpuCount: number;
  readonly memSizeMib: number;
  readonly kernelPath: string;
  readonly initrdPath: string;
  readonly kernelArguments: string;
}

/** Arguments for a machine that boots a kernel and writes its console to stdout; no disk, no network, no lanes. */
export function bareArgv(program: string, machine: BareMachine): string[] {
  return [
    program,
    ...["-machine", machineOption(machine.accelerator)],
    ...["-cpu", cpuModel(machine.accelerator)],
    ...["-smp", String(machine.vcpuCount)],
    ...["-m", `${machine.memSizeMib}M`],
    // The whole process loses what it does not need: new programs, other users, kernel interfaces (qemu(1), -sandbox).
    ...["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"],
    ...["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"],
    ...["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"],
    ...["-kernel", machine.kernelPath],
    ...["-initrd", machine.initrdPath],
    ...["-append", machine.kernelArguments],
  ];
}

/** Arguments for a whole machine. */
export function machineArgv(program: string, machine: MachineSpec): string[] {
  return [
    ...bareArgv(program, { ...machine, kernelArguments: kernelCommandLine(machine) }),
    ...monitorOptions(machine.runtimeDir),
    ...laneOptions(machine.runtimeDir),
    ...diskOptions(machine.disk),
    ...networkOptions(machine.network),
  ];
}

/** A value inside a comma-separated option: QEMU reads two commas as one. */
function escaped(value: string): string {
  return value.replaceAll(",", ",,");
}

function machineOption(accelerator: Accelerator): string {
  // ACPI stays: Debian's kernel learns of virtio-mmio devices by nothing else. So does the clock chip: the kernel waits
  // 2 s for a missing one. Timer and interrupt chips only cost time (docs/system/i386/microvm.rst).
  return `microvm,accel=${accelerator},acpi=on,pit=off,pic=off,rtc=on,usb=off,isa-serial=on,x-option-roms=off`;
}

function cpuModel(accelerator: Accelerator): string {
  // Some nested hosts refuse the MSR behind arch-capabilities (0x10a) and kill the guest with it.
  return accelerator === "tcg" ? "max" : "host,-arch-capabilities";
}

function monitorOptions(runtimeDir: string): string[] {
  const path = escaped(join(runtimeDir, MONITOR_SOCKET));
  return ["-chardev", `socket,id=qmp,path=${path},server=on,wait=off`, "-mon", "chardev=qmp,mode=control"];
}

function laneOptions(runtimeDir: string): string[] {
  const options = ["-device", `virtio-serial-device,max_ports=${QEMU_LANES + 1}`];
  for (let lane = 0; lane < QEMU_LANES; lane++) {
    const path = escaped(join(runtimeDir, laneSocket(lane)));
    options.push(
      ...["-chardev", `socket,id=lane${lane},path=${path},server=on,wait=off`],
      ...["-device", `virtserialport,chardev=lane${lane},name=smolvm.${lane}`],
    );
  }
  return options;
}

function diskOptions(disk: MachineDisk): string[] {
  const file = (filename: string) => ({ driver: "file", filename, discard: "unmap" });
  // Told that it has no backing file, QEMU does not open one that the header names: a header that was changed since
  // the disk was accepted must not lead to files of the host.
  const standalone = (format: DiskFormat) => ({ driver: format, ...(format === "qcow2" ? { backing: null } : {}) });
  const root =
    disk.mode === "shared"
      ? { ...standalone(disk.format), file: file(disk.path) }
      : {
          driver: "qcow2",
          file: file(disk.path),
          backing: {
            ...standalone(disk.baseFormat),
            "read-only": true,
            // The base is shared by all VMs and never written: no lock that would make them exclude each other.
            file: { driver: "file", filename: disk.basePath, "read-only": true, locking: "off" },
          },
        };
  return [
    ...["-blockdev", JSON.stringify({ ...root, "node-name": "root", discard: "unmap" })],
    // A full host disk is the guest's I/O error; QEMU would otherwise stop the guest and wait for somebody.
    ...["-device", "virtio-blk-device,drive=root,werror=report,rerror=report"],
  ];
}

function networkOptions(network: MachineSpec["network"]): string[] {
  if (network === undefined) return [];
  return [
    ...["-netdev", `stream,id=net0,server=off,addr.type=unix,addr.path=${escaped(network.socketPath)}`],
    ...["-device", `virtio-net-device,netdev=net0,mac=${network.macAddress}`],
  ];
}
