// What a transfer is asked and what it answers.

import type { Deadline } from "../../base/deadline.js";
import { DIRENT_TYPE } from "../files/dirent-type.js";

/** How far a transfer has come. */
export interface TransferProgress {
  /** Files, directories and links so far. */
  readonly entries: number;
  /** Content so far, in bytes; holes are not counted. */
  readonly bytes: number;
}

export interface TransferOptions {
  readonly deadline: Deadline;
  /** Called every now and then, at most once for some 100 KiB or a hundred entries; must not throw. */
  readonly onProgress?: ((progress: TransferProgress) => void) | undefined;
}

export interface DownloadOptions extends TransferOptions {
  /** Content that is taken, in bytes, holes not counted; more fails with `TRANSFER_FAILED`. Default 64 GiB. */
  readonly maxBytes?: number | undefined;
}

/** Why something was left out: `"outside"` is a link that leads out of what was copied, or could. */
export type SkipReason = "outside" | "socket" | "pipe" | "device" | "unknown";

export interface SkippedEntry {
  /** Below what was copied. */
  readonly path: string;
  readonly reason: SkipReason;
}

export interface TransferResult {
  readonly files: number;
  readonly directories: number;
  readonly links: number;
  /** Sizes of all files together. */
  readonly bytes: number;
  /** What was left out, because it cannot be copied or would be a danger to whoever follows it. */
  readonly skipped: readonly SkippedEntry[];
}

const REASON_BY_TYPE: ReadonlyMap<number, SkipReason> = new Map([
  [DIRENT_TYPE.link, "outside"],
  [DIRENT_TYPE.socket, "socket"],
  [DIRENT_TYPE.fifo, "pipe"],
  [DIRENT_TYPE.character, "device"],
  [DIRENT_TYPE.block, "device"],
]);

/** @param type Its `DT_*`. */
export function skipReason(type: number): SkipReason {
  return REASON_BY_TYPE.get(type) ?? "unknown";
}
