/// <reference types="node" preserve="true" />
// The public face of the package.

export type { WaitOptions } from "./base/deadline.js";
export type { ProgressEvent, ProgressListener } from "./base/progress.js";
export { ERROR_CODES, type ErrorCode, type ErrorCodeInfo } from "./errors/codes.js";
export { type ErrorDetails, isSmolVMError, SmolVMError } from "./errors/smolvm-error.js";
export { diagnoseHost, reconcile, type SetupOptions, type SetupReport, setupHost } from "./sdk/host.js";
export {
  type BuildImageOptions,
  buildImage,
  inspectImage,
  listImages,
  prepareImage,
  pruneImages,
  removeImage,
} from "./sdk/images.js";
export { SmolVM, SmolVM as VM, type StartOptions, type StateOptions } from "./sdk/smolvm.js";
export {
  type BootImage,
  CommandError,
  type CommandOptions,
  type CommandResult,
  type CreateOptions,
  type DeletedVm,
  type DoctorReport,
  type ImageInfo,
  type PruneResult,
  type ReconcileItem,
  type ReconcileReport,
  type RemovedEntry,
  type VMConfig,
  type VMInfo,
  type VmFailure,
  type VmStatus,
  type VmTransition,
} from "./sdk/types.js";
export { VmManager } from "./sdk/vm-manager.js";
