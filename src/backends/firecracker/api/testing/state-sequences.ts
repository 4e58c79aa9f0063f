// Requests to a machine that was started, so with KVM. Its kernel halts at once: no driver ever looks at a device.

import { join } from "node:path";
import * as requests from "../requests.js";
import { sampleFiles } from "./samples.js";
import { refused, type Step, taken } from "./sequences.js";

const MEM_SIZE_MIB = 16;

/** By what they are about. Each gets the directory where the samples' files are. */
export const STATE_SEQUENCES: Readonly<Record<string, (directory: string) => readonly Step[]>> = {
  "what is only for a machine that was not started": (directory) => [
    ...start(directory),
    ...configure(directory).map(refused),
    refused(load(directory)),
    ...outputs(directory).map(refused),
    ...[requests.startInstance(), requests.putEntropy()].map(refused),
    refused(requests.putBalloon({ amountMib: 0, deflateOnOom: true })),
    ...[requests.getInstance(), requests.getVmConfig(), requests.getVersion()].map(taken),
  ],

  "pause, snapshot, resume": (directory) => [
    ...start(directory),
    ...[requests.resumeVm(), requests.flushMetrics()].map(taken),
    refused(save(directory)),
    ...[requests.pauseVm(), requests.pauseVm(), save(directory)].map(taken),
    refused(save(directory, join(directory, "none/file"))),
    ...[requests.flushMetrics(), requests.resumeVm(), requests.sendCtrlAltDel()].map(taken),
  ],

  "drives of a machine that runs": (directory) => {
    const { disk: pathOnHost } = sampleFiles(directory);
    return [
      ...start(directory),
      taken(requests.patchDrive({ driveId: "a", pathOnHost })),
      taken(requests.patchDrive({ driveId: "a", rateLimiter: { ops: { size: 1, refillTime: 1 } } })),
      refused(requests.patchDrive({ driveId: "a" })),
      refused(requests.patchDrive({ driveId: "b", pathOnHost })),
      refused(requests.patchDrive({ driveId: "a", pathOnHost: join(directory, "none") })),
    ];
  },

  "a snapshot in another VMM, after its outputs": (directory) => [
    ...saved(directory),
    ...outputs(directory).map(taken),
    taken(load(directory, { trackDirtyPages: true })),
    ...[requests.getInstance(), requests.resumeVm(), requests.getVmConfig()].map(taken),
    refused(load(directory)),
  ],

  "a snapshot whose socket is in use": (directory) => [
    ...saved(directory),
    refused(load(directory, { vsockOverride: undefined })),
    "has-ended",
  ],

  "a snapshot without the interface that is to be another": (directory) => [
    ...saved(directory),
    refused(load(directory, { networkOverrides: [{ ifaceId: "eth0", hostDevName: "tap0" }] })),
    "has-ended",
  ],

  "a snapshot after a machine was configured": (directory) => [
    ...saved(directory),
    ...configure(directory).slice(0, 1).map(taken),
    refused(load(directory)),
    taken(requests.getInstance()),
  ],

  "a file that is no snapshot": (directory) => [
    ...saved(directory),
    refused(load(directory, { snapshotPath: sampleFiles(directory).disk })),
    "has-ended",
  ],
};

function configure(directory: string) {
  const files = sampleFiles(directory);
  return [
    requests.putMachineConfig({ vcpuCount: 1, memSizeMib: MEM_SIZE_MIB }),
    requests.putBootSource({ kernelImagePath: files.kernel, bootArgs: "" }),
    requests.putDrive({ driveId: "a", isRootDevice: false, pathOnHost: files.disk }),
    requests.putVsock({ guestCid: 3, udsPath: files.vsock }),
  ];
}

function start(directory: string): readonly Step[] {
  return [...configure(directory), requests.startInstance()].map(taken);
}

/** A snapshot was made, its machine goes on, and there is a second VMM. */
function saved(directory: string): readonly Step[] {
  return [...start(directory), ...[requests.pauseVm(), save(directory)].map(taken), "second-vmm"];
}

function save(directory: string, memFilePath = sampleFiles(directory).memory) {
  return requests.createSnapshot({ snapshotPath: sampleFiles(directory).state, memFilePath }, MEM_SIZE_MIB);
}

function load(directory: string, more: object = {}) {
  const files = sampleFiles(directory);
  return requests.loadSnapshot({
    snapshotPath: files.state,
    memBackend: { backendType: "File", backendPath: files.memory },
    vsockOverride: { udsPath: files.vsock2 },
    ...more,
  });
}

function outputs(directory: string) {
  const { metrics: metricsPath } = sampleFiles(directory);
  return [requests.putLogger({}), requests.putMetrics({ metricsPath }), requests.putSerial({})];
}
