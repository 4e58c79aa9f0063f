// The types that the public face shows and other rooms declare.

export type { BootOptions } from "../vm/boot-attempts.js";
export type { CheckpointInfo } from "../vm/checkpoints.js";
export type { CommandHooks, HookAnswer, HookedCommand } from "../vm/command-hooks.js";
export type { CommandOptions } from "../vm/command-options.js";
export type { CreateOptions } from "../vm/create-vm.js";
export type { DeletedVm } from "../vm/delete-vm.js";
export type { DoctorReport } from "../vm/diagnose-host.js";
export type {
  DownloadOptions,
  GuestDirent,
  GuestFiles,
  GuestPath,
  GuestReadStream,
  GuestStats,
  GuestWriteStream,
  SkippedEntry,
  TransferProgress,
  TransferResult,
  UploadOptions,
} from "../vm/files-in-vm.js";
export type { ForkOptions } from "../vm/fork-vm.js";
export type { BootImage, ImageInfo, PruneResult, RemovedEntry, TemplateInfo } from "../vm/image-types.js";
export type { EgressPolicy } from "../vm/network-config.js";
export type { ClosePortOptions, ExposeOptions } from "../vm/ports/port-options.js";
export type { ReconcileItem, ReconcileReport } from "../vm/reconcile.js";
export type { NetworkDenial } from "../vm/refusals.js";
export { CommandError, type CommandResult } from "../vm/run-in-vm.js";
export type { SnapshotInfo, SnapshotOptions } from "../vm/snapshots.js";
export {
  type CommandInput,
  GuestProcess,
  type GuestSignal,
  type ProcessInfo,
  type ProcessOutput,
  type PtySize,
} from "../vm/spawn-in-vm.js";
export type { AttachOptions, SpawnOptions } from "../vm/spawn-options.js";
export type { SshAccess } from "../vm/ssh/ssh-access.js";
export type { VMConfig } from "../vm/vm-config.js";
export type { VMInfo, VmFailure, VmStatus, VmTransition } from "../vm/vm-info.js";
export type { LogOptions } from "../vm/vm-logs.js";
export type { PoolOptions, PoolStats } from "../vm/vm-pool.js";
export type { VmOrigin } from "../vm/vm-spec.js";
