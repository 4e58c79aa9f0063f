// A machine as the requests that make it, in their order. Pure: nothing is sent here.

import type { MachineNetwork, MachineSpec } from "../backend.js";
import {
  type ApiRequest,
  loadSnapshot,
  putBootSource,
  putDrive,
  putEntropy,
  putMachineConfig,
  putNetworkInterface,
  putVsock,
  resumeVm,
  startInstance,
} from "./api/requests.js";
import { kernelCommandLine } from "./kernel-command-line.js";
import { NAMES } from "./places.js";
import type { Platform } from "./platform.js";

const IFACE_ID = "net0";
const DRIVE_ID = "root";
/** Addresses below have a meaning (vsock(7)). It is the same for all: nothing of it is seen outside of the VMM. */
const GUEST_CID = 3;
/** Device that a VMM makes for itself where nothing is to be behind the guest's, in a network namespace of its own. */
const UNPLUGGED_DEVICE = "unplugged";

/** What brings a machine up whose VMM has just started; the last one makes it run. */
export function startRequests(machine: MachineSpec, platform: Platform): readonly ApiRequest[] {
  return machine.memory.from === "image" ? [loadRequest(machine), resumeVm()] : bootRequests(machine, platform);
}

function bootRequests(machine: MachineSpec, platform: Platform): readonly ApiRequest[] {
  const { network } = machine;
  return [...hardwareRequests(machine, platform), ...networkRequests(network), startInstance()];
}

/** A machine that boots and has no disk, lanes or network. */
export function bareRequests(memSizeMib: number, bootArgs: string): readonly ApiRequest[] {
  return [
    putMachineConfig({ vcpuCount: 1, memSizeMib }),
    putBootSource({ kernelImagePath: NAMES.kernel, initrdPath: NAMES.initrd, bootArgs }),
    startInstance(),
  ];
}

function hardwareRequests({ vcpuCount, memSizeMib, memory, bootArgs }: MachineSpec, platform: Platform): ApiRequest[] {
  return [
    // Only of memory that is recorded anything is saved that depends on which pages were written to.
    putMachineConfig({ vcpuCount, memSizeMib, trackDirtyPages: memory.from === "recording" }),
    putBootSource({
      kernelImagePath: NAMES.kernel,
      initrdPath: NAMES.initrd,
      bootArgs: kernelCommandLine(platform, bootArgs),
    }),
    // Not as the root device: Firecracker would put `root=` on the command line, which is the agent's business.
    putDrive({ driveId: DRIVE_ID, isRootDevice: false, pathOnHost: NAMES.disk, cacheType: "Writeback" }),
    putVsock({ guestCid: GUEST_CID, udsPath: NAMES.vsock }),
    putEntropy(),
  ];
}

function networkRequests(network: MachineNetwork | undefined): ApiRequest[] {
  if (network === undefined) return [];
  return [putNetworkInterface({ ifaceId: IFACE_ID, hostDevName: deviceOf(network), guestMac: network.macAddress })];
}

/** Disk and vsock keep the names that are in the snapshot: they are the same in every VMM's directory. */
function loadRequest({ network }: MachineSpec): ApiRequest {
  return loadSnapshot({
    snapshotPath: NAMES.devices,
    memBackend: { backendType: "File", backendPath: NAMES.memory },
    networkOverrides: network === undefined ? undefined : [{ ifaceId: IFACE_ID, hostDevName: deviceOf(network) }],
  });
}

function deviceOf({ link }: MachineNetwork): string {
  return link?.kind === "tap" ? link.device : UNPLUGGED_DEVICE;
}
