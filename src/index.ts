/// <reference types="node" preserve="true" />
// The public face of the package.

export type { WaitOptions } from "./base/deadline.js";
export { PHASE_CHANNEL, type PhaseEvent } from "./base/phases.js";
export type { ProgressEvent, ProgressListener } from "./base/progress.js";
export { ERROR_CODES, type ErrorCode, type ErrorCodeInfo } from "./errors/codes.js";
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
export { type ForkResult, SmolVM, SmolVM as VM, type StartOptions, type StateOptions } from "./sdk/smolvm.js";
export { SmolVMPool } from "./sdk/smolvm-pool.js";
export type { SnapshotLookupOptions } from "./sdk/snapshots.js";
export {
  type BootImage,
  type BootOptions,
  type CheckpointInfo,
  CommandError,
  type CommandOptions,
  type CommandResult,
  type CreateOptions,
  type DeletedVm,
  type DoctorReport,
  type ForkOptions,
  type ImageInfo,
  type PoolOptions,
  type PoolStats,
  type PruneResult,
  type ReconcileItem,
  type ReconcileReport,
  type RemovedEntry,
  type SnapshotInfo,
  type SnapshotOptions,
  type TemplateInfo,
  type VMConfig,
  type VMInfo,
  type VmFailure,
  type VmOrigin,
  type VmStatus,
  type VmTransition,
} from "./sdk/types.js";
export { VmManager } from "./sdk/vm-manager.js";
