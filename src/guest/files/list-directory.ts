// Lists directories of the guest, also with all below them.

import { Deadline } from "../../base/deadline.js";
import { settleAll } from "../../base/settle-all.js";
import { FieldWriter } from "../fields.js";
import {
  DIRECTORY_ENTRIES_LIMIT,
  DirectoryDecoder,
  type DirectoryEntry,
  type EntryBudget,
} from "./directory-decoder.js";
import { DIRENT_TYPE, typeOfMode } from "./dirent-type.js";
import { type FileClient, SMALL_TIMEOUT_MS } from "./file-client.js";
import type { ReaddirOptions } from "./file-options.js";
import { type GuestPath, guestPath } from "./guest-path.js";

const SLASH = Buffer.from("/");
/** Calls that are under way at a time. */
const CALLS_AT_A_TIME = 8;

/** An entry with the directory that it was found in. */
export interface ListedEntry extends DirectoryEntry {
  /** Path of its directory below the one that was listed, without a slash at the end; empty for that one itself. */
  readonly below: Buffer;
}

/**
 * Lists a directory; with `recursive` those below it too, the nearer ones first, never through a symbolic link.
 *
 * @param options `timeoutMs` is one limit for the whole listing.
 * @param budget Most entries of the whole listing.
 */
export async function listDirectory(
  client: FileClient,
  path: GuestPath,
  options: ReaddirOptions,
  budget: EntryBudget = { left: DIRECTORY_ENTRIES_LIMIT },
): Promise<ListedEntry[]> {
  const listing = new Listing(client, guestPath(path), options, budget);
  const found = await listing.list(Buffer.alloc(0));
  if (!options.recursive) return found;
  for (let level = found; level.length > 0; ) level = await listing.listBelow(level, found);
  return found;
}

class Listing {
  readonly #client: FileClient;
  readonly #root: Buffer;
  readonly #deadline: Deadline;
  readonly #needsTypes: boolean;
  /** Of all directories together, also those that are listed at the same time. */
  readonly #budget: EntryBudget;

  constructor(client: FileClient, root: Buffer, options: ReaddirOptions, budget: EntryBudget) {
    this.#client = client;
    this.#root = root;
    this.#budget = budget;
    this.#deadline = Deadline.from(options, SMALL_TIMEOUT_MS);
    this.#needsTypes = options.withFileTypes === true || options.recursive === true;
  }

  /** Lists the directories among these entries, adds what is in them to `found`, and returns it. */
  async listBelow(entries: readonly ListedEntry[], found: ListedEntry[]): Promise<ListedEntry[]> {
    const directories = entries.filter(({ type }) => type === DIRENT_TYPE.directory);
    const lists = await inBatches(directories, ({ below, name }) => this.list(joined(below, name)));
    const level = lists.flat();
    for (const entry of level) found.push(entry);
    return level;
  }

  async list(below: Buffer): Promise<ListedEntry[]> {
    const path = guestPath(joined(this.#root, below));
    const decoder = new DirectoryDecoder(this.#budget);
    const fields = new FieldWriter().bytes(10, path);
    const onData = (data: Buffer) => decoder.push(data);
    await this.#client.receive({ operation: "fs.readdir", syscall: "scandir", path, fields, onData }, this.#deadline);
    const entries = decoder.finish().map((entry) => ({ ...entry, below }));
    if (!this.#needsTypes || entries.every(({ type }) => type !== DIRENT_TYPE.unknown)) return entries;
    return inBatches(entries, async (entry) => (entry.type === DIRENT_TYPE.unknown ? this.#withType(entry) : entry));
  }

  /** Some file systems do not say the type of an entry. */
  async #withType(entry: ListedEntry): Promise<ListedEntry> {
    const path = guestPath(joined(joined(this.#root, entry.below), entry.name));
    const fields = new FieldWriter().bytes(10, path).flag(12, true);
    const call = { operation: "fs.stat", syscall: "lstat", path, fields };
    const { signal, remainingMs } = this.#deadline;
    const mode = (await this.#client.call(call, { signal, timeoutMs: remainingMs })).u32(20);
    return { ...entry, type: mode === undefined ? DIRENT_TYPE.unknown : typeOfMode(mode) };
  }
}

async function inBatches<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  for (let from = 0; from < items.length; from += CALLS_AT_A_TIME) {
    const batch = await settleAll(items.slice(from, from + CALLS_AT_A_TIME).map(work));
    for (const result of batch) results.push(result);
  }
  return results;
}

/** `directory/name`; the name alone where there is no directory, and the directory alone where there is no name. */
export function joined(directory: Buffer, name: Buffer): Buffer {
  if (directory.length === 0) return name;
  if (name.length === 0) return directory;
  const hasSlash = directory[directory.length - 1] === SLASH[0];
  return Buffer.concat(hasSlash ? [directory, name] : [directory, SLASH, name]);
}
