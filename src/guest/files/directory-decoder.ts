// Reads the entries of a directory out of the guest's data (docs/guest-protocol.md, `fs.readdir`). Pure.

import { violation } from "../violation.js";

/** Most entries of a directory, or of a recursive listing: more is refused. */
export const DIRECTORY_ENTRIES_LIMIT = 1_000_000;
/** Longest name, in bytes (`NAME_MAX` of Linux). */
export const NAME_LIMIT_BYTES = 255;

/** Type u8 and length u16 before a name. */
const ENTRY_HEADER_BYTES = 3;
const SLASH = 0x2f;
const DOT = 0x2e;

export interface DirectoryEntry {
  readonly type: number;
  readonly name: Buffer;
}

/** How many entries may still come, for all decoders of one listing together. */
export interface EntryBudget {
  left: number;
}

export class DirectoryDecoder {
  readonly #budget: EntryBudget;
  readonly #entries: DirectoryEntry[] = [];
  #rest: Buffer = Buffer.alloc(0);

  constructor(budget: EntryBudget = { left: DIRECTORY_ENTRIES_LIMIT }) {
    this.#budget = budget;
  }

  /** @throws {PROTOCOL_ERROR} on a name that no directory can hold, or too many. */
  push(chunk: Buffer): void {
    // What is left over is less than one entry.
    let rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    for (;;) {
      if (rest.length < ENTRY_HEADER_BYTES) break;
      const nameBytes = rest.readUInt16BE(1);
      if (nameBytes > NAME_LIMIT_BYTES) throw violation(`a directory entry with a name of ${nameBytes} bytes`);
      const endBytes = ENTRY_HEADER_BYTES + nameBytes;
      if (rest.length < endBytes) break;
      this.#add(rest.readUInt8(0), Buffer.from(rest.subarray(ENTRY_HEADER_BYTES, endBytes)));
      rest = rest.subarray(endBytes);
    }
    this.#rest = rest;
  }

  /** @throws {PROTOCOL_ERROR} when the last entry is cut off. */
  finish(): DirectoryEntry[] {
    if (this.#rest.length > 0) throw violation("a directory entry is cut off");
    return this.#entries;
  }

  #add(type: number, name: Buffer): void {
    if (!isName(name)) throw violation("a directory entry with a name that no file can have");
    this.#budget.left -= 1;
    if (this.#budget.left < 0) throw violation(`more than ${DIRECTORY_ENTRIES_LIMIT} entries`);
    this.#entries.push({ type, name });
  }
}

/** Whether a file can have this name: not empty, `.` or `..`, at most 255 bytes, without `/` and NUL. */
export function isName(name: Uint8Array): boolean {
  if (name.length === 0 || name.length > NAME_LIMIT_BYTES) return false;
  if (name.includes(SLASH) || name.includes(0)) return false;
  return !(name.length <= 2 && name.every((byte) => byte === DOT));
}
