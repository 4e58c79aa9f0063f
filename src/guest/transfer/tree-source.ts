// Prepares the entries of a tree of the host for sending, a bounded number of them ahead of the sender.

import { type BigIntStats, constants } from "node:fs";
import { type FileHandle, lstat, open, readlink } from "node:fs/promises";
import { DIRENT_TYPE, typeOfMode } from "../files/dirent-type.js";
import { HostDirectory } from "./host-directory.js";
import { hostFile } from "./host-failure.js";
import { below, directoryOf, type HostPath, nameOf } from "./host-path.js";
import { staysInTree } from "./link-target.js";
import { type EntryRecord, type FileRecord, PERMISSION_BITS, type TreePath } from "./tree-record.js";
import { release, TreeWalk, type WalkedEntry } from "./tree-walk.js";

/** Entries that are being prepared at a time. */
const ENTRIES_AHEAD = 24;
/** Largest file that is read ahead as a whole, in bytes. */
const SMALL_FILE_BYTES = 64 * 1024;
/** Not what a link points at, and waiting for nobody if it has become a pipe. */
const OPEN_FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
/** Unit of a file's `blocks`, in bytes (stat(2)). */
const BLOCK_BYTES = 512;

/** A file that is too large to be read ahead; whoever gets it closes it. */
export interface LargeFile {
  readonly handle: FileHandle;
  readonly path: HostPath;
  /** Whether it may have holes. */
  readonly isSparse: boolean;
}

/** An entry that is ready to be sent. */
export interface PreparedEntry {
  readonly record: EntryRecord;
  /** All of a small file's content. */
  readonly content?: Buffer | undefined;
  readonly large?: LargeFile | undefined;
}

/**
 * All entries of a tree, its root first.
 *
 * @param root A path without a symbolic link in it. What lies below it is never looked for through one.
 */
export async function* prepareTree(root: HostPath): AsyncGenerator<PreparedEntry> {
  const walk = new TreeWalk();
  const ahead: Promise<PreparedEntry>[] = [];
  try {
    ahead.push(prepare(await begin(root, walk)));
    for (;;) {
      while (ahead.length < ENTRIES_AHEAD) {
        const entry = await walk.next();
        if (entry === undefined) break;
        const prepared = prepare(entry);
        prepared.catch(() => {}); // It is awaited when its turn comes.
        ahead.push(prepared);
      }
      const first = ahead.shift();
      if (first === undefined) return;
      yield await first;
    }
  } finally {
    for (const entry of await Promise.allSettled(ahead)) {
      if (entry.status === "fulfilled") await entry.value.large?.handle.close();
    }
    await walk.close();
  }
}

/** The root as an entry; the walk goes into it if it is a directory. */
async function begin(root: HostPath, walk: TreeWalk): Promise<WalkedEntry> {
  const name = nameOf(root) === "" ? "." : nameOf(root);
  return hostFile("Look at", root, async () => {
    const parent = await HostDirectory.open(directoryOf(root));
    try {
      const type = typeOfMode((await lstat(parent.at(name))).mode);
      const entry = { path: "", type, parent, name };
      if (type !== DIRENT_TYPE.directory) return entry;
      const directory = await parent.enter(name);
      directory.hold(); // One for the walk, one for the entry.
      await walk.begin(directory).catch(async (error: unknown) => {
        await directory.close();
        throw error;
      });
      return { ...entry, directory };
    } catch (error) {
      await parent.close();
      throw error;
    }
  });
}

async function prepare(entry: WalkedEntry): Promise<PreparedEntry> {
  const { path, type, parent, name, directory } = entry;
  const hostPath = below(parent.path, name);
  try {
    return await hostFile("Read", hostPath, async () => {
      if (directory !== undefined) return directoryEntry(path, directory);
      if (type === DIRENT_TYPE.file) return fileEntry(entry, hostPath);
      if (type === DIRENT_TYPE.link) return linkEntry(entry);
      return { record: { kind: "leftOut", path, type } };
    });
  } finally {
    await release(entry);
  }
}

async function directoryEntry(path: TreePath, directory: HostDirectory): Promise<PreparedEntry> {
  const stats = await directory.handle.stat({ bigint: true });
  return { record: { kind: "directory", path, ...attributes(stats) } };
}

async function linkEntry({ path, parent, name }: WalkedEntry): Promise<PreparedEntry> {
  const target = (await readlink(parent.at(name), { encoding: "buffer" })).toString("latin1");
  if (!staysInTree(path, target, true)) return { record: { kind: "leftOut", path, type: DIRENT_TYPE.link } };
  const { mtimeNs } = await lstat(parent.at(name), { bigint: true });
  return { record: { kind: "link", path, mtimeNs, target } };
}

async function fileEntry({ path, parent, name }: WalkedEntry, hostPath: HostPath): Promise<PreparedEntry> {
  const handle = await open(parent.at(name), OPEN_FLAGS);
  let isKept = false;
  try {
    const stats = await handle.stat({ bigint: true });
    if (!stats.isFile()) return { record: { kind: "leftOut", path, type: typeOfMode(Number(stats.mode)) } };
    const sizeBytes = Number(stats.size);
    const record: FileRecord = { kind: "file", path, sizeBytes, ...attributes(stats) };
    if (sizeBytes <= SMALL_FILE_BYTES) return { record, content: await readSmall(handle, sizeBytes) };
    isKept = true;
    const isSparse = Number(stats.blocks) * BLOCK_BYTES < sizeBytes;
    return { record, large: { handle, path: hostPath, isSparse } };
  } finally {
    if (!isKept) await handle.close();
  }
}

/** What is there of the size that was said: a file may shrink while it is read. */
async function readSmall(handle: FileHandle, sizeBytes: number): Promise<Buffer> {
  const content = Buffer.allocUnsafe(sizeBytes);
  let readBytes = 0;
  while (readBytes < sizeBytes) {
    const { bytesRead } = await handle.read(content, readBytes, sizeBytes - readBytes, readBytes);
    if (bytesRead === 0) break;
    readBytes += bytesRead;
  }
  return content.subarray(0, readBytes);
}

function attributes(stats: BigIntStats): { readonly mode: number; readonly mtimeNs: bigint } {
  return { mode: Number(stats.mode) & PERMISSION_BITS, mtimeNs: stats.mtimeNs };
}
