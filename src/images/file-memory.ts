// Remembers, within this process, what was read from a file, as long as stat(2) says that it is the same file.
// It never trusts its memory without that look.

import { type FileState, fileState } from "./file-identity.js";

/**
 * A file that changed less than this ago is not remembered, in milliseconds: it may be written to once more without a
 * trace in its times. vfat keeps them to 2 s, the coarsest that Linux has.
 */
const UNSETTLED_MS = 2000;
/** Most files remembered; one cache has some dozens. */
const FILES_LIMIT = 512;

/** What was read from files, by path. */
export class FileMemory<T> {
  readonly #known = new Map<string, { readonly identity: string; readonly value: T }>();

  /**
   * What `read` made of the file at `path` when it was last read, or makes of it now.
   *
   * @param read Reads that file and nothing else. What it throws is passed on, and not remembered.
   */
  async get(path: string, read: () => Promise<T>): Promise<T> {
    const before = await stateOf(path);
    const known = this.#known.get(path);
    if (known !== undefined && known.identity === before?.identity) return known.value;
    this.#known.delete(path);
    const value = await read();
    // Remembered with the state from before the reading: whatever changed since then is noticed at the next look.
    if (before !== undefined && before.changedAtMs < Date.now() - UNSETTLED_MS) {
      this.#remember(path, { identity: before.identity, value });
    }
    return value;
  }

  #remember(path: string, entry: { readonly identity: string; readonly value: T }): void {
    const [oldest] = this.#known.keys();
    if (this.#known.size >= FILES_LIMIT && oldest !== undefined) this.#known.delete(oldest);
    this.#known.set(path, entry);
  }
}

/** A file that cannot be looked at is not remembered; reading it says what is wrong. */
function stateOf(path: string): Promise<FileState | undefined> {
  return fileState(path).catch(() => undefined);
}
