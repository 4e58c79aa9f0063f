// Requests to a VMM before the start: what needs neither KVM nor any right.

import { join } from "node:path";
import * as requests from "../requests.js";
import { BOOT_ARGS_LIMIT_BYTES, SOCKET_PATH_LIMIT_BYTES } from "./rules.js";
import { sampleFiles } from "./samples.js";
import { asSent, type WireRequest } from "./send.js";
import { refused, type Step, taken } from "./sequences.js";

/** By what they are about. Each gets the directory where the samples' files are. */
export const CONFIGURATION_SEQUENCES: Readonly<Record<string, (directory: string) => readonly Step[]>> = {
  machine: () => [
    ...[machine(1, 128), machine(3, 128), machine(32, 1), machine(2, 16_384)].map(taken),
    ...[machine(0, 128), machine(33, 128), machine(1, 0)].map(refused),
    refused(requests.putMachineConfig({ vcpuCount: 3, memSizeMib: 128, smt: true })),
    taken(requests.putMachineConfig({ vcpuCount: 2, memSizeMib: 128, hugePages: "2M" })),
    refused(requests.putMachineConfig({ vcpuCount: 2, memSizeMib: 129, hugePages: "2M" })),
  ],

  "boot source": (directory) => {
    const { kernel: kernelImagePath } = sampleFiles(directory);
    const boot = (bootArgs?: string) => requests.putBootSource({ kernelImagePath, bootArgs });
    return [
      ...[boot(), boot(""), boot("x".repeat(BOOT_ARGS_LIMIT_BYTES))].map(taken),
      ...[boot("x".repeat(BOOT_ARGS_LIMIT_BYTES + 1)), boot("x".repeat(60_000))].map(refused),
      refused(requests.putBootSource({ kernelImagePath: nowhere(directory) })),
      refused(requests.putBootSource({ kernelImagePath, initrdPath: nowhere(directory) })),
    ];
  },

  drives: (directory) => {
    const drive = (driveId: string, isRootDevice = false) =>
      requests.putDrive({ driveId, isRootDevice, pathOnHost: sampleFiles(directory).disk });
    const sent = asSent(drive("c"));
    return [
      ...[drive("a"), drive("a"), drive("b_2", true), drive("b_2", true)].map(taken),
      ...[drive("c", true), drive("a", true), drive("a-b"), drive("")].map(refused),
      refused(requests.putDrive({ driveId: "c", isRootDevice: false, pathOnHost: nowhere(directory) })),
      refused(requests.putDrive({ driveId: "c", isRootDevice: false, pathOnHost: directory })),
      { request: changed(sent, { path_on_host: undefined }), isTaken: false },
      { request: changed(sent, { socket: join(directory, "disk.sock") }), isTaken: false },
      { request: { ...sent, path: "/drives/d" }, isTaken: false },
      { request: { ...sent, path: "/drives" }, isTaken: false },
    ];
  },

  vsock: (directory) => {
    const vsock = (udsPath: string) => requests.putVsock({ guestCid: 3, udsPath });
    const files = sampleFiles(directory);
    const longest = directory.padEnd(SOCKET_PATH_LIMIT_BYTES - 1, "/");
    return [
      ...[vsock(files.vsock), vsock(files.vsock), vsock(files.vsock2)].map(taken),
      ...[vsock(files.disk), vsock(nowhere(directory))].map(refused),
      taken(vsock(`${longest}v`)),
      refused(vsock(`${longest}/v`)),
    ];
  },

  "memory, balloon, entropy": () => {
    const balloon = (amountMib: number) => requests.putBalloon({ amountMib, deflateOnOom: false });
    return [
      { request: { method: "GET", path: "/balloon" }, isTaken: false },
      ...[machine(1, 256), balloon(256), requests.putEntropy(), requests.putEntropy({ rateLimiter: {} })].map(taken),
      ...[balloon(257), machine(1, 255)].map(refused),
      { request: { method: "GET", path: "/balloon" }, isTaken: true },
    ];
  },

  outputs: (directory) => {
    const { log: logPath, metrics: metricsPath } = sampleFiles(directory);
    return [
      ...[requests.putLogger({}), requests.putLogger({ level: "Off", logPath })].map(taken),
      refused(requests.putLogger({ logPath: nowhere(directory) })),
      refused(requests.putMetrics({ metricsPath: nowhere(directory) })),
      taken(requests.putMetrics({ metricsPath })),
      refused(requests.putMetrics({ metricsPath })), // Once is enough.
      taken(requests.putSerial({})),
      taken(requests.putSerial({ serialOutPath: nowhere(directory) })), // It is opened at the start.
    ];
  },

  "what is only for a machine that runs": (directory) => {
    const { disk: pathOnHost, state: snapshotPath, memory: memFilePath } = sampleFiles(directory);
    return [
      ...[requests.getInstance(), requests.getVersion(), requests.getVmConfig()].map(taken),
      ...[requests.pauseVm(), requests.resumeVm(), requests.sendCtrlAltDel(), requests.flushMetrics()].map(refused),
      refused(requests.createSnapshot({ snapshotPath, memFilePath }, 128)),
      taken(requests.putDrive({ driveId: "a", isRootDevice: false, pathOnHost })),
      taken(requests.putBalloon({ amountMib: 1, deflateOnOom: false })),
      refused(requests.patchDrive({ driveId: "a", pathOnHost })),
      refused(requests.patchBalloon({ amountMib: 2 })),
      refused(requests.startInstance()), // There is no kernel.
    ];
  },

  "other requests": () =>
    [
      { method: "GET", path: "/none" },
      { method: "PUT", path: "/none", body: {} },
      { method: "POST", path: "/drives/a", body: {} },
      { method: "PATCH", path: "/vsock", body: {} },
      { method: "PUT", path: "/snapshot/merge", body: {} },
      { method: "PUT", path: `/drives/${"a".repeat(1_100)}`, body: {} },
    ].map((request) => ({ request, isTaken: false })),

  "a snapshot that is not there": (directory) => [refused(load(directory)), "has-ended"],

  "a snapshot after a drive that was refused": (directory) => [
    refused(requests.putDrive({ driveId: "c", isRootDevice: false, pathOnHost: nowhere(directory) })),
    refused(load(directory)),
    taken(requests.getInstance()),
  ],

  "a snapshot without memory, and with two": (directory) => [
    { request: changed(asSent(load(directory)), { mem_backend: undefined }), isTaken: false },
    { request: changed(asSent(load(directory)), { mem_file_path: nowhere(directory) }), isTaken: false },
    taken(requests.getInstance()),
  ],
};

function machine(vcpuCount: number, memSizeMib: number) {
  return requests.putMachineConfig({ vcpuCount, memSizeMib });
}

function load(directory: string) {
  const memBackend = { backendType: "File", backendPath: sampleFiles(directory).memory } as const;
  return requests.loadSnapshot({ snapshotPath: nowhere(directory), memBackend });
}

/** A file in a directory that is not there. */
function nowhere(directory: string): string {
  return join(directory, "none/file");
}

/** A request with fields of its body changed, in Firecracker's own names. */
function changed(request: WireRequest, fields: Readonly<Record<string, unknown>>): WireRequest {
  return { ...request, body: { ...(request.body as object), ...fields } };
}
