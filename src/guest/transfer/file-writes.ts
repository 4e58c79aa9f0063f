// Writes the contents of received files, several at a time, without holding more than a bounded amount of them.

import type { FileHandle } from "node:fs/promises";
import { hostFile } from "./host-failure.js";
import { below, type HostPath } from "./host-path.js";
import { nodeTime } from "./stage.js";
import type { FileRecord } from "./tree-record.js";

/** Files that are open at a time. */
const OPEN_FILES_LIMIT = 32;
/** Content that waits to be written, in bytes. */
const WAITING_LIMIT_BYTES = 2 * 1024 * 1024;

interface OpenFile {
  readonly record: FileRecord;
  readonly handle: FileHandle;
  /** End of what was written, in bytes. */
  writtenBytes: number;
  /** Everything that is to be done with it, one after the other. */
  work: Promise<void>;
}

export class FileWrites {
  readonly #root: HostPath;
  #current: OpenFile | undefined;
  #openFiles = 0;
  #waitingBytes = 0;
  #failure: { readonly error: unknown } | undefined;
  #wake: (() => void)[] = [];

  /** @param root Where the tree will be, for messages. */
  constructor(root: HostPath) {
    this.#root = root;
  }

  /** Begins a file; the one before it is whole then. @param make Makes it. */
  async begin(record: FileRecord, make: () => Promise<FileHandle>): Promise<void> {
    this.end();
    while (this.#openFiles >= OPEN_FILES_LIMIT) await this.#progress();
    this.#throwFailure();
    this.#openFiles += 1;
    try {
      const handle = await make();
      this.#current = { record, handle, writtenBytes: 0, work: Promise.resolve() };
    } catch (error) {
      this.#closed();
      throw error;
    }
  }

  /** Content of the file that was begun last. @returns A promise where there is too much waiting already. */
  content(offset: number, data: Buffer): void | Promise<void> {
    const file = this.#current as OpenFile;
    file.writtenBytes = offset + data.length;
    this.#waitingBytes += data.length;
    this.#then(file, async () => {
      try {
        await writeAll(file.handle, offset, data);
      } finally {
        this.#waitingBytes -= data.length;
        this.#wakeAll();
      }
    });
    return this.#waitingBytes > WAITING_LIMIT_BYTES || this.#failure !== undefined ? this.#room() : undefined;
  }

  /** The file that was begun last is whole. */
  end(): void {
    const file = this.#current;
    if (file === undefined) return;
    this.#current = undefined;
    const { record, handle } = file;
    this.#then(file, async () => {
      if (file.writtenBytes !== record.sizeBytes) await handle.truncate(record.sizeBytes);
      await handle.utimes(new Date(), nodeTime(record.mtimeNs));
    });
    this.#close(file);
  }

  /** Waits until all files are written and closed. @throws {STORAGE_FAILED} when one of them could not be. */
  async settle(): Promise<void> {
    this.end();
    while (this.#openFiles > 0) await this.#progress();
    this.#throwFailure();
  }

  async #room(): Promise<void> {
    while (this.#waitingBytes > WAITING_LIMIT_BYTES) await this.#progress();
    this.#throwFailure();
  }

  /** Does something with a file after all that came before, even if that failed. */
  #then(file: OpenFile, work: () => Promise<void>): void {
    file.work = file.work.then(async () => {
      try {
        await hostFile("Write a file", below(this.#root, file.record.path), work);
      } catch (error) {
        this.#failure ??= { error };
      }
    });
  }

  #close(file: OpenFile): void {
    this.#then(file, () => file.handle.close());
    file.work.then(
      () => this.#closed(),
      () => this.#closed(),
    );
  }

  #closed(): void {
    this.#openFiles -= 1;
    this.#wakeAll();
  }

  #progress(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake.push(resolve);
    });
  }

  #wakeAll(): void {
    const waiting = this.#wake;
    this.#wake = [];
    for (const wake of waiting) wake();
  }

  #throwFailure(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }
}

async function writeAll(handle: FileHandle, offset: number, data: Buffer): Promise<void> {
  let writtenBytes = 0;
  while (writtenBytes < data.length) {
    const { bytesWritten } = await handle.write(data, writtenBytes, data.length - writtenBytes, offset + writtenBytes);
    writtenBytes += bytesWritten;
  }
}
