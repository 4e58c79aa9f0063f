// Files of a running VM's guest: one by one, and copied as trees between guest and host.

import { Deadline, type WaitOptions } from "../base/deadline.js";
import { GuestFiles } from "../guest/files/guest-files.js";
import type { GuestPath } from "../guest/files/guest-path.js";
import { downloadTree } from "../guest/transfer/download-tree.js";
import type { TransferProgress, TransferResult } from "../guest/transfer/transfer.js";
import { uploadTree } from "../guest/transfer/upload-tree.js";
import type { VmContext } from "./context.js";
import { guestConnection } from "./guest-access.js";
import type { WhenOpen } from "./spawn-in-vm.js";

export type { GuestDirent } from "../guest/files/guest-dirent.js";
export { GuestFiles } from "../guest/files/guest-files.js";
export type { GuestPath } from "../guest/files/guest-path.js";
export type { GuestReadStream } from "../guest/files/guest-read-stream.js";
export type { GuestStats } from "../guest/files/guest-stats.js";
export type { GuestWriteStream } from "../guest/files/guest-write-stream.js";
export type { SkippedEntry, TransferProgress, TransferResult } from "../guest/transfer/transfer.js";

/** Options of `upload`. */
export interface UploadOptions extends WaitOptions {
  /** Hears now and then how far it has come; must not throw. */
  readonly onProgress?: ((progress: TransferProgress) => void) | undefined;
}

/** Options of `download`. */
export interface DownloadOptions extends UploadOptions {
  /** More content than this is refused, in bytes; default 64 GiB. */
  readonly maxBytes?: number | undefined;
}

/** The files of a guest; each call opens the way to it if need be. */
export function filesInVm(ctx: VmContext, vmId: string, whenOpen: WhenOpen): GuestFiles {
  return new GuestFiles(async (deadline) => {
    await whenOpen(deadline);
    return guestConnection(ctx, { vmId, purpose: "use the files of" }, deadline);
  });
}

/** @throws {VM_NOT_FOUND} {INVALID_STATE} and as {@link uploadTree}. */
export async function uploadToVm(
  ctx: VmContext,
  vmId: string,
  { hostPath, guestPath }: { readonly hostPath: string; readonly guestPath: GuestPath },
  options: UploadOptions,
): Promise<TransferResult> {
  const deadline = Deadline.from(options, Number.POSITIVE_INFINITY);
  const connection = await guestConnection(ctx, { vmId, purpose: "upload to" }, deadline);
  return uploadTree(connection, hostPath, guestPath, { deadline, onProgress: options.onProgress });
}

/** @throws {VM_NOT_FOUND} {INVALID_STATE} and as {@link downloadTree}. */
export async function downloadFromVm(
  ctx: VmContext,
  vmId: string,
  { hostPath, guestPath }: { readonly hostPath: string; readonly guestPath: GuestPath },
  options: DownloadOptions,
): Promise<TransferResult> {
  const { onProgress, maxBytes } = options;
  const deadline = Deadline.from(options, Number.POSITIVE_INFINITY);
  const connection = await guestConnection(ctx, { vmId, purpose: "download from" }, deadline);
  return downloadTree(connection, guestPath, hostPath, { deadline, onProgress, maxBytes });
}
