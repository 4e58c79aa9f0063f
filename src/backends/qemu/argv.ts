// The QEMU command line for a machine, as data in and argv out. Paths that come from users go into JSON options,
// where a comma is just a comma.

import { join } from "node:path";
import type { Accelerator, MachineLink, MachineMemory, MachineSpec } from "../backend.js";
import { diskOptions } from "./disk-options.js";
import { QEMU_LANES } from "./features.js";
import { kernelCommandLine } from "./kernel-command-line.js";
import { memoryOfMachine, memoryOptions, NETWORK_FD, OWN_LANE_FD } from "./memory-options.js";

/** Name of the monitor's socket in the runtime directory. */
export const MONITOR_SOCKET = "qmp";

/** Name of a lane's socket in the runtime directory. */
export function laneSocket(lane: number): string {
  return `lane${lane}`;
}

/** The machine without its sockets, disk and network. */
interface Hardware {
  readonly accelerator: Accelerator;
  readonly vcpuCount: number;
  readonly memSizeMib: number;
}

/** What a machine boots. */
interface Kernel {
  readonly kernelPath: string;
  readonly initrdPath: string;
  readonly kernelArguments: string;
}

/** Arguments for a machine that boots a kernel and writes its console to stdout; no disk, no network, no lanes. */
export function bareArgv(program: string, machine: Hardware & Kernel): string[] {
  return [program, ...hardwareOptions(machine, { from: "boot" }), ...kernelOptions(machine)];
}

/** Arguments for a whole machine. */
export function machineArgv(program: string, machine: MachineSpec): string[] {
  const kernelArguments = kernelCommandLine(machine);
  return [
    program,
    ...hardwareOptions(machine, machine.memory),
    // A machine from an image has its kernel in memory.
    ...(machine.memory.from === "image" ? [] : kernelOptions({ ...machine, kernelArguments })),
    ...memoryOptions(machine.memory, machine.memSizeMib),
    ...monitorOptions(machine.runtimeDir),
    ...laneOptions(machine.runtimeDir),
    ...diskOptions(machine.disk),
    ...networkOptions(machine.network),
  ];
}

function hardwareOptions(machine: Hardware, memory: MachineMemory): string[] {
  return [
    ...["-machine", `${machineOption(machine.accelerator)}${memoryOfMachine(memory)}`],
    ...["-cpu", cpuModel(machine.accelerator)],
    ...["-smp", String(machine.vcpuCount)],
    ...["-m", `${machine.memSizeMib}M`],
    // The whole process loses what it does not need: new programs, other users, kernel interfaces (qemu(1), -sandbox).
    ...["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"],
    ...["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"],
    ...["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"],
  ];
}

function kernelOptions(kernel: Kernel): string[] {
  return [...["-kernel", kernel.kernelPath], ...["-initrd", kernel.initrdPath], ...["-append", kernel.kernelArguments]];
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
  // Port 0 is the console's; then the lanes, and the starter's own.
  const options = ["-device", `virtio-serial-device,max_ports=${QEMU_LANES + 2}`];
  for (let lane = 0; lane < QEMU_LANES; lane++) {
    const path = escaped(join(runtimeDir, laneSocket(lane)));
    options.push(
      ...["-chardev", `socket,id=lane${lane},path=${path},server=on,wait=off`],
      ...["-device", `virtserialport,chardev=lane${lane},name=smolvm.${lane}`],
    );
  }
  // One end of a pair of sockets, which the child inherits: connected before there is a guest.
  options.push("-chardev", `socket,id=ownlane,fd=${OWN_LANE_FD}`);
  options.push("-device", "virtserialport,chardev=ownlane,name=smolvm.own");
  return options;
}

/** As a server, QEMU waits for the next client when the one that it had is gone (net/stream.c). */
function netdev(link: MachineLink): string {
  if (link.kind === "socket") return `stream,id=net0,server=on,addr.type=fd,addr.str=${NETWORK_FD}`;
  return `tap,id=net0,ifname=${escaped(link.device)},script=no,downscript=no`;
}

function networkOptions(network: MachineSpec["network"]): string[] {
  if (network === undefined) return [];
  const { link, macAddress } = network;
  if (link === undefined) return ["-device", `virtio-net-device,mac=${macAddress}`];
  return [...["-netdev", netdev(link)], ...["-device", `virtio-net-device,netdev=net0,mac=${macAddress}`]];
}
