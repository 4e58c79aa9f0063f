// Every request that a backend sends to Firecracker, as data: pure functions, each of which makes one.
// They know nothing of the machine's state: each says when Firecracker takes it, and Firecracker refuses it otherwise.

import type { z } from "zod";
import type { ErrorCode } from "../../../errors/codes.js";
import { type InstanceInfo, instanceInfo, type VersionInfo, type VmConfig, versionInfo, vmConfig } from "./answers.js";
import type {
  Balloon,
  BalloonUpdate,
  BootSource,
  Drive,
  DriveUpdate,
  Entropy,
  Logger,
  MachineConfig,
  Metrics,
  NetworkInterface,
  Serial,
  SnapshotFiles,
  SnapshotSource,
  Vsock,
} from "./bodies.js";

/** One request, and how to judge what comes back. */
export interface ApiRequest<Answer = void> {
  readonly method: "GET" | "PUT" | "PATCH";
  readonly path: string;
  /** What is sent, with our names. */
  readonly body?: object;
  /** What a success carries: 200 with this shape, or 204 with nothing. */
  readonly answer?: z.ZodType<Answer>;
  /** The code of our error when Firecracker refuses: what its caller's caller can make of that. */
  readonly refusal: ErrorCode;
  /** How long it may take where the caller has no opinion, in milliseconds. */
  readonly limitMs: number;
}

/** Nothing but bookkeeping in Firecracker, and files that are opened. */
const CONFIGURE_LIMIT_MS = 10_000;
/** Firecracker itself gives the vCPUs 30 s (RECV_TIMEOUT_SEC in its src/vmm/src/lib.rs); its word shall come first. */
const VCPU_LIMIT_MS = 40_000;
/** Kernel and initramfs are read, or a snapshot's state; memory is only mapped, whatever its size. */
const START_LIMIT_MS = 60_000;
/** The slowest disk that a snapshot is waited for, in MiB a second. Firecracker syncs the files before it answers. */
const SLOWEST_DISK_MIB_PER_S = 32;

/** What a VMM says of itself. */
export function getInstance(): ApiRequest<InstanceInfo> {
  return { ...get("/"), answer: instanceInfo };
}

export function getVersion(): ApiRequest<VersionInfo> {
  return { ...get("/version"), answer: versionInfo };
}

/** All that was configured. */
export function getVmConfig(): ApiRequest<VmConfig> {
  return { ...get("/vm/config"), answer: vmConfig };
}

/** Before the start. Replaces all of it. */
export function putMachineConfig(config: MachineConfig): ApiRequest {
  return configure("/machine-config", config, "INTERNAL");
}

/** Before the start. The files are opened now. */
export function putBootSource(source: BootSource): ApiRequest {
  return configure("/boot-source", source, "STORAGE_FAILED");
}

/** Before the start. The file is opened now, for writing unless it is read-only. */
export function putDrive(drive: Drive): ApiRequest {
  return configure(`/drives/${drive.driveId}`, drive, "STORAGE_FAILED");
}

/** After the start. */
export function patchDrive(update: DriveUpdate): ApiRequest {
  return { ...configure(`/drives/${update.driveId}`, update, "STORAGE_FAILED"), method: "PATCH" };
}

/** Before the start. The TAP device is opened now. */
export function putNetworkInterface(nic: NetworkInterface): ApiRequest {
  return configure(`/network-interfaces/${nic.ifaceId}`, nic, "NETWORK_FAILED");
}

/** Before the start. The VMM listens on the socket from now on. */
export function putVsock(vsock: Vsock): ApiRequest {
  return configure("/vsock", vsock, "STORAGE_FAILED");
}

/** Before the start. */
export function putEntropy(entropy: Entropy = {}): ApiRequest {
  return configure("/entropy", entropy, "INTERNAL");
}

/** Before the start. */
export function putBalloon(balloon: Balloon): ApiRequest {
  return configure("/balloon", balloon, "INTERNAL");
}

/** After the start, once the guest's driver is there. */
export function patchBalloon(update: BalloonUpdate): ApiRequest {
  return { ...configure("/balloon", update, "INTERNAL"), method: "PATCH" };
}

/** Before the start, also before a snapshot is loaded. */
export function putLogger(logger: Logger): ApiRequest {
  return configure("/logger", logger, "STORAGE_FAILED");
}

/** Before the start, also before a snapshot is loaded; once. */
export function putMetrics(metrics: Metrics): ApiRequest {
  return configure("/metrics", metrics, "STORAGE_FAILED");
}

/** Before the start, also before a snapshot is loaded. */
export function putSerial(serial: Serial): ApiRequest {
  return configure("/serial", serial, "STORAGE_FAILED");
}

/** Boots the machine. Answered when the vCPUs run. */
export function startInstance(): ApiRequest {
  return { ...action("InstanceStart"), refusal: "BOOT_FAILED", limitMs: START_LIMIT_MS };
}

/** After the start. x86_64 only. Says nothing about whether the guest cares. */
export function sendCtrlAltDel(): ApiRequest {
  return action("SendCtrlAltDel");
}

/** After the start, with metrics configured. */
export function flushMetrics(): ApiRequest {
  return action("FlushMetrics");
}

/** After the start. Nothing changes if it is paused already. */
export function pauseVm(): ApiRequest {
  return changeState("Paused");
}

/** After the start. Nothing changes if it runs already. */
export function resumeVm(): ApiRequest {
  return changeState("Resumed");
}

/**
 * While it is paused. A refusal changes nothing but files.
 *
 * @param memSizeMib The machine's memory; the default limit grows with it: 16 GiB may take 552 s.
 */
export function createSnapshot(files: SnapshotFiles, memSizeMib: number): ApiRequest {
  const writingMs = Math.ceil((memSizeMib / SLOWEST_DISK_MIB_PER_S) * 1_000);
  return { ...configure("/snapshot/create", files, "STORAGE_FAILED"), limitMs: VCPU_LIMIT_MS + writingMs };
}

/** Before anything but logger, metrics and serial is configured. A VMM that refuses the files ends. */
export function loadSnapshot(source: SnapshotSource): ApiRequest {
  return { ...configure("/snapshot/load", source, "SNAPSHOT_FAILED"), limitMs: START_LIMIT_MS };
}

function get(path: string): Omit<ApiRequest, "answer"> {
  return { method: "GET", path, refusal: "INTERNAL", limitMs: CONFIGURE_LIMIT_MS };
}

function configure(path: string, body: object, refusal: ErrorCode): ApiRequest {
  return { method: "PUT", path, body, refusal, limitMs: CONFIGURE_LIMIT_MS };
}

function action(actionType: "InstanceStart" | "SendCtrlAltDel" | "FlushMetrics"): ApiRequest {
  return configure("/actions", { actionType }, "INTERNAL");
}

function changeState(state: "Paused" | "Resumed"): ApiRequest {
  return { method: "PATCH", path: "/vm", body: { state }, refusal: "INTERNAL", limitMs: VCPU_LIMIT_MS };
}
