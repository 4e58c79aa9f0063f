// Walks a tree of the host: directories before what is in them, names in the order of their bytes.

import type { Dirent } from "node:fs";
import { lstat, readdir } from "node:fs/promises";
import { DIRENT_TYPE, typeOfMode } from "../files/dirent-type.js";
import type { HostDirectory } from "./host-directory.js";
import { hostConflict, hostFile } from "./host-failure.js";
import { below, type HostPath } from "./host-path.js";
import { readable } from "./tree-failure.js";
import { DEPTH_LIMIT, TREE_PATH_LIMIT_BYTES, type TreePath } from "./tree-record.js";

/** Something in a directory of the tree. */
export interface WalkedEntry {
  readonly path: TreePath;
  /** Its `DT_*`. */
  readonly type: number;
  /** The directory that it is in, open until {@link release} is called. */
  readonly parent: HostDirectory;
  readonly name: string;
  /** A directory itself, when it is one; open likewise. */
  readonly directory?: HostDirectory | undefined;
}

interface Level {
  readonly path: TreePath;
  readonly directory: HostDirectory;
  /** What is still to come, the next one last. */
  readonly entries: Dirent<Buffer>[];
}

/** Holds only the directories on the way open. {@link close} must be called. */
export class TreeWalk {
  readonly #levels: Level[] = [];

  /** Begins in a directory, which belongs to the walk from now on; it is not an entry itself. */
  async begin(root: HostDirectory): Promise<void> {
    await this.#open("", root);
  }

  /** The next entry, or undefined at the end. Its directories are held for the caller, who calls {@link release}. */
  async next(): Promise<WalkedEntry | undefined> {
    for (;;) {
      const level = this.#levels.at(-1);
      if (level === undefined) return undefined;
      const entry = level.entries.pop();
      if (entry !== undefined) return this.#entry(level, entry);
      this.#levels.pop();
      await level.directory.close();
    }
  }

  async close(): Promise<void> {
    for (const { directory } of this.#levels.splice(0)) await directory.close();
  }

  async #entry(level: Level, entry: Dirent<Buffer>): Promise<WalkedEntry> {
    const name = entry.name.toString("latin1");
    const path = level.path === "" ? name : `${level.path}/${name}`;
    const parent = level.directory;
    if (path.length > TREE_PATH_LIMIT_BYTES) throw tooLong(below(parent.path, name));
    const type = direntType(entry) ?? (await lookUp(parent, name));
    if (type !== DIRENT_TYPE.directory) {
      parent.hold();
      return { path, type, parent, name };
    }
    if (this.#levels.length >= DEPTH_LIMIT) throw tooLong(below(parent.path, name));
    const directory = await hostFile("Open a directory", below(parent.path, name), () => parent.enter(name));
    await this.#open(path, directory);
    parent.hold();
    directory.hold();
    return { path, type, parent, name, directory };
  }

  async #open(path: TreePath, directory: HostDirectory): Promise<void> {
    const level: Level = { path, directory, entries: [] };
    this.#levels.push(level);
    const options = { encoding: "buffer", withFileTypes: true } as const;
    const entries = await hostFile("Read a directory", directory.path, () => readdir(directory.at("."), options));
    entries.sort((a, b) => Buffer.compare(b.name, a.name));
    for (const entry of entries) level.entries.push(entry);
  }
}

/** Lets go of an entry's directories. */
export async function release({ parent, directory }: WalkedEntry): Promise<void> {
  await parent.close();
  await directory?.close();
}

function direntType(entry: Dirent<Buffer>): number | undefined {
  if (entry.isFile()) return DIRENT_TYPE.file;
  if (entry.isDirectory()) return DIRENT_TYPE.directory;
  if (entry.isSymbolicLink()) return DIRENT_TYPE.link;
  if (entry.isSocket()) return DIRENT_TYPE.socket;
  if (entry.isFIFO()) return DIRENT_TYPE.fifo;
  if (entry.isCharacterDevice()) return DIRENT_TYPE.character;
  return entry.isBlockDevice() ? DIRENT_TYPE.block : undefined;
}

/** For file systems that do not say it with the name. */
async function lookUp(parent: HostDirectory, name: string): Promise<number> {
  const stats = await hostFile("Look at", below(parent.path, name), () => lstat(parent.at(name)));
  return typeOfMode(stats.mode);
}

function tooLong(path: HostPath) {
  const message = `Cannot upload "${readable(path)}": its path is too long or too deep for a copy`;
  return hostConflict("ENAMETOOLONG", message, path);
}
