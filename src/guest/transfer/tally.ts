// Counts what a transfer has moved.

import { type SkippedEntry, skipReason, type TransferProgress, type TransferResult } from "./transfer.js";
import { readable } from "./tree-failure.js";
import type { EntryRecord } from "./tree-record.js";

export class Tally {
  readonly #onProgress: ((progress: TransferProgress) => void) | undefined;
  readonly #skipped: SkippedEntry[] = [];
  #files = 0;
  #directories = 0;
  #links = 0;
  #sizesBytes = 0;
  #contentBytes = 0;

  constructor(onProgress: ((progress: TransferProgress) => void) | undefined) {
    this.#onProgress = onProgress;
  }

  add(record: EntryRecord): void {
    if (record.kind === "leftOut") {
      this.#skipped.push({ path: readable(record.path), reason: skipReason(record.type) });
    } else if (record.kind === "directory") {
      this.#directories += 1;
    } else if (record.kind === "link") {
      this.#links += 1;
    } else {
      this.#files += 1;
      this.#sizesBytes += record.sizeBytes;
    }
  }

  addContent(sizeBytes: number): void {
    this.#contentBytes += sizeBytes;
  }

  /** Files, directories and links. */
  get entries(): number {
    return this.#files + this.#directories + this.#links;
  }

  report(): void {
    this.#onProgress?.({ entries: this.entries, bytes: this.#contentBytes });
  }

  result(): TransferResult {
    return {
      files: this.#files,
      directories: this.#directories,
      links: this.#links,
      bytes: this.#sizesBytes,
      skipped: this.#skipped,
    };
  }
}
