// The types that the public face shows and other rooms declare.

export type { CommandOptions } from "../vm/command-options.js";
export type { CreateOptions } from "../vm/create-vm.js";
export type { DeletedVm } from "../vm/delete-vm.js";
export type { DoctorReport } from "../vm/diagnose-host.js";
export type { BootImage, ImageInfo, PruneResult, RemovedEntry } from "../vm/image-types.js";
export type { ReconcileItem, ReconcileReport } from "../vm/reconcile.js";
export { CommandError, type CommandResult } from "../vm/run-in-vm.js";
export type { VMConfig } from "../vm/vm-config.js";
export type { VMInfo, VmFailure, VmStatus, VmTransition } from "../vm/vm-info.js";
