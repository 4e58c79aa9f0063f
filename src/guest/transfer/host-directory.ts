// An open directory of the host. What is in it is named relative to it, so nobody who can rename directories meanwhile,
// such as a guest that has one mounted, turns a path elsewhere.

import { constants } from "node:fs";
import { type FileHandle, lstat, open, readdir, rmdir, unlink } from "node:fs/promises";
import { settleAll } from "../../base/settle-all.js";
import { hasCode, hostFile } from "./host-failure.js";
import { below, type HostPath, onHost } from "./host-path.js";

const DIRECTORY_FLAGS = constants.O_RDONLY | constants.O_DIRECTORY;
/** Only Linux has names for open files that lead to the files themselves; elsewhere the path must do. */
const HAS_DESCRIPTOR_PATHS = process.platform === "linux";
/** Entries that are removed at a time. */
const REMOVED_AT_A_TIME = 16;

export class HostDirectory {
  /** For messages only. */
  readonly path: HostPath;
  readonly handle: FileHandle;
  readonly #prefix: string;
  #users = 1;

  private constructor(path: HostPath, handle: FileHandle) {
    this.path = path;
    this.handle = handle;
    this.#prefix = HAS_DESCRIPTOR_PATHS ? `/proc/self/fd/${handle.fd}` : path;
  }

  /** Opens a path, through symbolic links too. Fails as `open` of Node.js. */
  static async open(path: HostPath): Promise<HostDirectory> {
    return new HostDirectory(path, await open(onHost(path), DIRECTORY_FLAGS));
  }

  /** Opens a directory in this one, never through a symbolic link. Fails as `open` of Node.js. */
  async enter(name: string): Promise<HostDirectory> {
    const handle = await open(this.at(name), DIRECTORY_FLAGS | constants.O_NOFOLLOW);
    return new HostDirectory(below(this.path, name), handle);
  }

  /** A name in it as the functions of node:fs take it; `"."` is the directory itself. */
  at(name: string): Buffer {
    return onHost(below(this.#prefix, name));
  }

  /** Keeps it open beyond its {@link close} until one more. */
  hold(): void {
    this.#users += 1;
  }

  async close(): Promise<void> {
    this.#users -= 1;
    if (this.#users === 0) await this.handle.close();
  }
}

/** Does something with a directory and closes it. */
export async function inside<T>(directory: HostDirectory, work: (directory: HostDirectory) => Promise<T>): Promise<T> {
  try {
    return await work(directory);
  } finally {
    await directory.close();
  }
}

/** Removes what has this name, with all below it. That it is gone already is fine. @throws {STORAGE_FAILED} */
export async function removeBelow(parent: HostDirectory, name: string): Promise<void> {
  await hostFile("Remove unfinished files", below(parent.path, name), () => remove(parent, name));
}

async function remove(parent: HostDirectory, name: string): Promise<void> {
  const stats = await lstat(parent.at(name)).catch((error: unknown) => {
    if (hasCode(error, "ENOENT")) return undefined;
    throw error;
  });
  if (stats === undefined) return;
  if (!stats.isDirectory()) {
    await unlink(parent.at(name));
    return;
  }
  await inside(await parent.enter(name), async (directory) => {
    const names = (await readdir(directory.at("."), { encoding: "buffer" })).map((bytes) => bytes.toString("latin1"));
    for (let from = 0; from < names.length; from += REMOVED_AT_A_TIME) {
      await settleAll(names.slice(from, from + REMOVED_AT_A_TIME).map((one) => remove(directory, one)));
    }
  });
  await rmdir(parent.at(name));
}
