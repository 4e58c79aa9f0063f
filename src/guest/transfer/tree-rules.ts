// What the records of a tree may say, in which order (docs/guest-protocol.md, "Files"). Pure: it decides before anything of
// a record reaches the host's file system.

import { NAME_LIMIT_BYTES } from "../files/directory-decoder.js";
import { staysInTree } from "./link-target.js";
import type { DecodedRecord } from "./tree-decoder.js";
import { brokenTree, readable } from "./tree-failure.js";
import { type EntryRecord, type FileRecord, PERMISSION_BITS, TREE_PATH_LIMIT_BYTES } from "./tree-record.js";

/** Most entries of a tree that is received, and most bytes of all their paths together: they are held in memory. */
const ENTRIES_LIMIT = 1_000_000;
const PATHS_LIMIT_BYTES = 256 * 1024 * 1024;

/** What a receiver takes. */
export interface TreeLimits {
  /** Content of all files together, in bytes, holes not counted. */
  readonly contentBytes: number;
  readonly entries?: number;
  readonly pathBytes?: number;
}

export class TreeRules {
  readonly #limits: Required<TreeLimits>;
  /** True for a directory. */
  readonly #paths = new Map<string, boolean>();
  #pathBytes = 0;
  #contentBytes = 0;
  /** The file that content may come for, and where the next may begin. */
  #file: FileRecord | undefined;
  #writtenBytes = 0;

  constructor(limits: TreeLimits) {
    this.#limits = { entries: ENTRIES_LIMIT, pathBytes: PATHS_LIMIT_BYTES, ...limits };
  }

  /** @throws {TRANSFER_FAILED} when this record may not come now. */
  check(record: DecodedRecord): void {
    if (record.kind === "content") {
      this.#checkContent(record.offset, record.data.length);
      return;
    }
    this.#file = undefined;
    if (record.kind === "end") {
      if (this.#paths.size === 0) throw brokenTree("it has no root");
      return;
    }
    this.#checkPath(record.path);
    this.#checkEntry(record);
    if (record.kind !== "file") return;
    this.#file = record;
    this.#writtenBytes = 0;
  }

  #checkContent(offset: number, sizeBytes: number): void {
    if (this.#file === undefined) throw brokenTree("content that belongs to no file");
    const endBytes = offset + sizeBytes;
    if (offset < this.#writtenBytes || endBytes > this.#file.sizeBytes) {
      throw brokenTree(`content at ${offset} does not fit into "${readable(this.#file.path)}"`);
    }
    this.#writtenBytes = endBytes;
    this.#contentBytes += sizeBytes;
    if (this.#contentBytes > this.#limits.contentBytes) {
      throw brokenTree(`more content than the limit of ${this.#limits.contentBytes} bytes`);
    }
  }

  #checkPath(path: string): void {
    const { entries, pathBytes } = this.#limits;
    const shown = `"${readable(path)}"`;
    if (path.length > TREE_PATH_LIMIT_BYTES) throw brokenTree(`a path of ${path.length} bytes`);
    if (this.#paths.has(path)) throw brokenTree(`${shown} comes twice`);
    if (this.#paths.size === 0) {
      if (path !== "") throw brokenTree(`it begins with ${shown} and not with its root`);
      return;
    }
    const slash = path.lastIndexOf("/");
    const parent = slash < 0 ? "" : path.slice(0, slash);
    // The parent came before and was checked, so only the last name is new.
    if (this.#paths.get(parent) !== true) throw brokenTree(`${shown} is in no directory of it`);
    if (!isTreeName(path.slice(slash + 1))) throw brokenTree(`a name that no file can have, in ${shown}`);
    this.#pathBytes += path.length;
    if (this.#paths.size >= entries) throw brokenTree(`more than ${entries} entries`);
    if (this.#pathBytes > pathBytes) throw brokenTree(`more than ${pathBytes} bytes of paths`);
  }

  #checkEntry(record: EntryRecord): void {
    const { kind, path } = record;
    if ((kind === "file" || kind === "directory") && record.mode > PERMISSION_BITS) {
      throw brokenTree(`mode 0${record.mode.toString(8)} of "${readable(path)}"`);
    }
    if (kind === "link" && !staysInTree(path, record.target, false)) {
      throw brokenTree(`the link "${readable(path)}" leads outside, to "${readable(record.target)}"`);
    }
    this.#paths.set(path, kind === "directory");
  }
}

/** Bytes as characters: not empty, `.` or `..`, at most 255, without `/` and NUL. */
function isTreeName(name: string): boolean {
  if (name === "" || name === "." || name === "..") return false;
  return name.length <= NAME_LIMIT_BYTES && !name.includes("/") && !name.includes("\0");
}
