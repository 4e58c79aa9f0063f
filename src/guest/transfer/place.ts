// Where a tree comes to on the host: what lies there already, and how the tree gets there when it is whole.

import { constants, type Stats } from "node:fs";
import { access, lstat, mkdir, readdir, rename, rmdir } from "node:fs/promises";
import { HostDirectory, inside } from "./host-directory.js";
import { hasCode, hostConflict, hostFile } from "./host-failure.js";
import { below, directoryOf, type HostPath, nameOf } from "./host-path.js";
import { ROOT_NAME, type Stage } from "./stage.js";
import { readable } from "./tree-failure.js";
import type { DirectoryRecord, TreePath } from "./tree-record.js";

export class Place {
  /** The innermost directory that is there already. The stage is made in it, so that nothing crosses file systems. */
  readonly base: HostDirectory;
  readonly path: HostPath;
  /** What leads from there to the tree: missing parents and its own name. None: the tree is joined to the base. */
  readonly #names: readonly string[];

  private constructor(base: HostDirectory, names: readonly string[]) {
    this.base = base;
    this.path = names.reduce(below, base.path);
    this.#names = names;
  }

  /** @param path Absolute. Links that lead there are followed, one at its end only to a directory. @throws {STORAGE_FAILED} */
  static async find(path: HostPath): Promise<Place> {
    const names: string[] = [];
    for (let at = path; ; at = directoryOf(at)) {
      const base = await hostFile("Open a directory", at, async () => {
        try {
          return await HostDirectory.open(at);
        } catch (error) {
          // The name itself may be that of a file; a parent may not.
          const isMissing = hasCode(error, "ENOENT") || (hasCode(error, "ENOTDIR") && names.length === 0);
          if (isMissing && at !== "/") return undefined;
          throw error;
        }
      });
      if (base !== undefined) return new Place(base, names);
      names.unshift(nameOf(at));
    }
  }

  /** Refuses early what cannot end well. @throws {EISDIR} @throws {ENOTDIR} @throws {EEXIST} */
  async check(isDirectory: boolean): Promise<void> {
    const [name] = this.#names;
    if (name === undefined && !isDirectory) throw conflict("EISDIR", this.base.path);
    if (name !== undefined && this.#names.length === 1) await isTaken(this.base, name, isDirectory);
  }

  /** Moves the tree here, making the parents that are missing. @param restricted See {@link Stage.complete}. */
  async take(stage: Stage, isDirectory: boolean, restricted: readonly DirectoryRecord[]): Promise<void> {
    const name = this.#names.at(-1);
    if (name === undefined) {
      await joinRoots(stage, this.base, restricted);
      return;
    }
    await inParents(this.base, this.#names.slice(0, -1), async (directory) => {
      await isTaken(directory, name, isDirectory);
      const path = below(directory.path, name);
      await hostFile("Move the files to", path, () => rename(stage.top.at(ROOT_NAME), directory.at(name)));
      if (restricted.length === 0) return;
      const root = await hostFile("Open a directory", path, () => directory.enter(name));
      await inside(root, () => restrict(root, restricted));
    });
  }

  async close(): Promise<void> {
    await this.base.close();
  }
}

/** Does something in a directory that is made first, and removes what it has made again if that fails. */
async function inParents(
  directory: HostDirectory,
  names: readonly string[],
  work: (directory: HostDirectory) => Promise<void>,
): Promise<void> {
  const [name, ...rest] = names;
  if (name === undefined) {
    await work(directory);
    return;
  }
  const path = below(directory.path, name);
  const isMade = await hostFile("Make the directory", path, () => makeUnlessThere(directory, name));
  try {
    const inner = await hostFile("Open a directory", path, () => directory.enter(name));
    await inside(inner, () => inParents(inner, rest, work));
  } catch (error) {
    if (isMade) await rmdir(directory.at(name)).catch(() => {}); // Others may have put something into it.
    throw error;
  }
}

async function makeUnlessThere(directory: HostDirectory, name: string): Promise<boolean> {
  try {
    await mkdir(directory.at(name));
    return true;
  } catch (error) {
    if (hasCode(error, "EEXIST")) return false;
    throw error;
  }
}

async function joinRoots(stage: Stage, base: HostDirectory, restricted: readonly DirectoryRecord[]): Promise<void> {
  const joined = new Set<TreePath>([""]);
  const root = await hostFile("Open a directory", stage.top.path, () => stage.top.enter(ROOT_NAME));
  await inside(root, async () => {
    // All of it is looked at before the first move.
    await join({ from: root, to: base, path: "", joined, isMoving: false });
    await join({ from: root, to: base, path: "", joined, isMoving: true });
  });
  await restrict(
    base,
    restricted.filter(({ path }) => !joined.has(path)),
  );
}

interface Joining {
  readonly from: HostDirectory;
  readonly to: HostDirectory;
  /** Of `from` in the tree. */
  readonly path: TreePath;
  /** Directories that are in both. */
  readonly joined: Set<TreePath>;
  readonly isMoving: boolean;
}

async function join(joining: Joining): Promise<void> {
  const { from, to, path, joined, isMoving } = joining;
  await hostFile("Move files into", to.path, async () => {
    const names = await readdir(from.at("."), { encoding: "buffer" });
    if (!isMoving && names.length > 0) await access(to.at("."), constants.W_OK | constants.X_OK);
    for (const bytes of names) {
      const name = bytes.toString("latin1");
      const isDirectory = (await lstat(from.at(name))).isDirectory();
      const taken = await isTaken(to, name, isDirectory);
      if (taken && isDirectory) {
        const inner = path === "" ? name : `${path}/${name}`;
        joined.add(inner);
        await joinBelow(joining, name, inner);
      } else if (isMoving) {
        await rename(from.at(name), to.at(name));
      }
    }
  });
}

async function joinBelow(joining: Joining, name: string, path: TreePath): Promise<void> {
  await inside(await joining.from.enter(name), async (from) => {
    await inside(await joining.to.enter(name), async (to) => {
      const [a, b] = [await from.handle.stat(), await to.handle.stat()];
      if (a.dev !== b.dev) {
        throw hostConflict(
          "EXDEV",
          `Cannot move files into "${readable(to.path)}": it is another file system`,
          to.path,
        );
      }
      await join({ ...joining, from, to, path });
    });
  });
}

/**
 * Whether a name is taken by something that may give way: a directory is joined with a directory, a file or link is
 * replaced by a file or link.
 */
async function isTaken(directory: HostDirectory, name: string, isDirectory: boolean): Promise<boolean> {
  const path = below(directory.path, name);
  const there = await hostFile("Look at", path, () => lookAt(directory, name));
  if (there === undefined) return false;
  if (there.isDirectory()) {
    if (!isDirectory) throw conflict("EISDIR", path);
  } else if (!there.isFile() && !there.isSymbolicLink()) {
    throw conflict("EEXIST", path); // A device, pipe or socket is somebody's.
  } else if (isDirectory) {
    throw conflict("ENOTDIR", path);
  }
  return true;
}

async function lookAt(directory: HostDirectory, name: string): Promise<Stats | undefined> {
  try {
    return await lstat(directory.at(name));
  } catch (error) {
    if (hasCode(error, "ENOENT")) return undefined;
    throw error;
  }
}

const CONFLICTS = {
  EISDIR: "a directory is there",
  ENOTDIR: "something is there that is not a directory",
  EEXIST: "a device, pipe or socket is there",
} as const;

function conflict(code: keyof typeof CONFLICTS, path: HostPath) {
  return hostConflict(code, `Cannot put the files at "${readable(path)}": ${CONFLICTS[code]}`, path);
}

/** Gives directories the modes that their owner could not have moved them with, the innermost first. */
async function restrict(root: HostDirectory, restricted: readonly DirectoryRecord[]): Promise<void> {
  for (const { path, mode } of restricted) {
    await hostFile("Set the mode of a directory", below(root.path, path), () => chmodBelow(root, path, mode));
  }
}

async function chmodBelow(directory: HostDirectory, path: TreePath, mode: number): Promise<void> {
  if (path === "") {
    await directory.handle.chmod(mode);
    return;
  }
  const slash = path.indexOf("/");
  const name = slash < 0 ? path : path.slice(0, slash);
  const rest = slash < 0 ? "" : path.slice(slash + 1);
  await inside(await directory.enter(name), (inner) => chmodBelow(inner, rest, mode));
}
