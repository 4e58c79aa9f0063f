/// <reference types="node" preserve="true" />
// The public face of the package.

export type { WaitOptions } from "./base/deadline.js";
export { PHASE_CHANNEL, type PhaseEvent } from "./base/phases.js";
export type { ProgressEvent, ProgressListener } from "./base/progress.js";
export { ERROR_CODES, type ErrorCode, type ErrorCodeInfo } from "./errors/codes.js";
export { GuestFileError } from "./errors/guest-file-error.js";
export { type ErrorDetails, isSmolVMError, SmolVMError } from "./errors/smolvm-error.js";
export { diagnoseHost, reconcile, type SetupOptions, type SetupReport, setupHost } from "./sdk/host.js";
export {
  type BuildImageOptions,
  buildImage,
  inspectImage,
  listImages,
  listTemplates,
  prepareImage,
  pruneImages,
  removeImage,
} from "./sdk/images.js";
export { type ForkResult, SmolVM, SmolVM as VM, type StartOptions } from "./sdk/smolvm.js";
export { SmolVMPool } from "./sdk/smolvm-pool.js";
export type { SnapshotLookupOptions } from "./sdk/snapshots.js";
export type { StateOptions } from "./sdk/state-options.js";
export {
  type AttachOptions,
  type BootImage,
  type BootOptions,
  type CheckpointInfo,
  type ClosePortOptions,
  CommandError,
  type CommandHooks,
  type CommandInput,
  type CommandOptions,
  type CommandResult,
  type CreateOptions,
  type DeletedVm,
  type DoctorReport,
  type DownloadOptions,
  type EgressPolicy,
  type ExposeOptions,
  type ForkOptions,
  type GuestDirent,
  type GuestFiles,
  type GuestPath,
  GuestProcess,
  type GuestReadStream,
  type GuestSignal,
  type GuestStats,
  type GuestWriteStream,
  type HookAnswer,
  type HookedCommand,
  type ImageInfo,
  type LogOptions,
  type NetworkDenial,
  type PoolOptions,
  type PoolStats,
  type ProcessInfo,
  type ProcessOutput,
  type PruneResult,
  type PtySize,
  type ReconcileItem,
  type ReconcileReport,
  type RemovedEntry,
  type SkippedEntry,
  type SnapshotInfo,
  type SnapshotOptions,
  type SpawnOptions,
  type SshAccess,
  type TemplateInfo,
  type TransferProgress,
  type TransferResult,
  type UploadOptions,
  type VMConfig,
  type VMInfo,
  type VmFailure,
  type VmOrigin,
  type VmStatus,
  type VmTransition,
} from "./sdk/types.js";
export type { VmEnv } from "./sdk/vm-env.js";
export { VmManager } from "./sdk/vm-manager.js";
export type { ExposedPort } from "./sdk/vm-ports.js";
export type { VmProcesses } from "./sdk/vm-processes.js";
