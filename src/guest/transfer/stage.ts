// A directory of the host in which a tree is built until it is whole. Nothing in it is reached through a symbolic link, and
// its owner can always remove it: modes that would prevent that come last (place.ts).

import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { type FileHandle, lstat, lutimes, mkdir, open, symlink } from "node:fs/promises";
import { type HostDirectory, removeBelow } from "./host-directory.js";
import { hostFile } from "./host-failure.js";
import { below } from "./host-path.js";
import { brokenTree } from "./tree-failure.js";
import {
  DEPTH_LIMIT,
  type DirectoryRecord,
  type FileRecord,
  type LinkRecord,
  PERMISSION_BITS,
  type TreePath,
} from "./tree-record.js";

/** Name of the tree's root in the stage. */
export const ROOT_NAME = "tree";

const NAME_BYTES = 8;
/** Keeps others out of what is not whole yet. */
const PRIVATE_MODE = 0o700;
const CREATE_FLAGS = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
const MS_PER_SECOND = 1000;
const NS_PER_MS = 1_000_000;

/** An open directory and where it is in the stage. */
interface Level {
  readonly path: string;
  readonly directory: HostDirectory;
}

export class Stage {
  readonly #base: HostDirectory;
  readonly #name: string;
  /** Permission bits that survive the making of a file here: the umask and a default ACL take the others. */
  readonly #keptBits: number;
  /** The open directories that lead to where the tree grows; the first is the stage's own. */
  readonly #levels: Level[];
  readonly #made: DirectoryRecord[] = [];

  private constructor(base: HostDirectory, name: string, top: HostDirectory, keptBits: number) {
    this.#base = base;
    this.#name = name;
    this.#keptBits = keptBits;
    this.#levels = [{ path: "", directory: top }];
  }

  /** @throws {STORAGE_FAILED} */
  static async make(base: HostDirectory): Promise<Stage> {
    const name = `.smolvm-${randomBytes(NAME_BYTES).toString("hex")}`;
    const path = below(base.path, name);
    return hostFile("Make a directory for unfinished files", path, async () => {
      await mkdir(base.at(name), PERMISSION_BITS);
      try {
        const keptBits = (await lstat(base.at(name))).mode & PERMISSION_BITS;
        const top = await base.enter(name);
        await top.handle.chmod(PRIVATE_MODE);
        return new Stage(base, name, top, keptBits);
      } catch (error) {
        await removeBelow(base, name);
        throw error;
      }
    });
  }

  /** The stage's own directory; what was built is in it under {@link ROOT_NAME}. */
  get top(): HostDirectory {
    return (this.#levels[0] as Level).directory;
  }

  async makeDirectory(record: DirectoryRecord): Promise<void> {
    await this.#make(record.path, async (directory, name) => {
      await mkdir(directory.at(name), PRIVATE_MODE);
      this.#made.push(record);
    });
  }

  async makeLink({ path, target, mtimeNs }: LinkRecord): Promise<void> {
    await this.#make(path, async (directory, name) => {
      await symlink(Buffer.from(target, "latin1"), directory.at(name));
      await lutimes(directory.at(name), new Date(), nodeTime(mtimeNs));
    });
  }

  /** Makes an empty file with its mode. */
  async makeFile({ path, mode }: FileRecord): Promise<FileHandle> {
    return this.#make(path, async (directory, name) => {
      const handle = await open(directory.at(name), CREATE_FLAGS, mode);
      if ((mode & ~this.#keptBits) === 0) return handle;
      try {
        await handle.chmod(mode);
        return handle;
      } catch (error) {
        await handle.close();
        throw error;
      }
    });
  }

  /**
   * Gives the directories their modes and times, now that nothing more is made in them.
   *
   * @returns Those whose mode keeps their owner from moving or removing what is in them: they do not have it yet, and the
   *   ones that are inside others come first.
   */
  async complete(): Promise<DirectoryRecord[]> {
    const restricted: DirectoryRecord[] = [];
    for (const record of this.#made.reverse()) {
      const directory = await this.#within(staged(record.path));
      const isRestricted = (record.mode & PRIVATE_MODE) !== PRIVATE_MODE;
      if (isRestricted) restricted.push(record);
      await hostFile("Set mode and time of a directory", directory.path, async () => {
        await directory.handle.chmod(isRestricted ? record.mode | PRIVATE_MODE : record.mode);
        await directory.handle.utimes(new Date(), nodeTime(record.mtimeNs));
      });
    }
    return restricted;
  }

  /** Removes the stage with all that is still in it. */
  async discard(): Promise<void> {
    for (const { directory } of this.#levels.splice(0)) await directory.close();
    await removeBelow(this.#base, this.#name);
  }

  async #make<T>(path: TreePath, work: (directory: HostDirectory, name: string) => Promise<T>): Promise<T> {
    const whole = staged(path);
    const slash = whole.lastIndexOf("/");
    const directory = await this.#within(slash < 0 ? "" : whole.slice(0, slash));
    const name = whole.slice(slash + 1);
    return hostFile("Write", below(directory.path, name), () => work(directory, name));
  }

  /** Goes to a directory of the stage: up as far as it must, then down. */
  async #within(path: string): Promise<HostDirectory> {
    for (;;) {
      const level = this.#levels.at(-1) as Level;
      if (level.path === path) return level.directory;
      if (level.path !== "" && !path.startsWith(`${level.path}/`)) {
        this.#levels.pop();
        await level.directory.close();
        continue;
      }
      if (this.#levels.length > DEPTH_LIMIT)
        throw brokenTree(`more than ${DEPTH_LIMIT} directories inside one another`);
      const from = level.path === "" ? 0 : level.path.length + 1;
      const slash = path.indexOf("/", from);
      const next = slash < 0 ? path : path.slice(0, slash);
      const directory = await enterStaged(level.directory, next.slice(from));
      this.#levels.push({ path: next, directory });
    }
  }
}

async function enterStaged(directory: HostDirectory, name: string): Promise<HostDirectory> {
  return hostFile("Open a directory", below(directory.path, name), () => directory.enter(name));
}

function staged(path: TreePath): string {
  return path === "" ? ROOT_NAME : `${ROOT_NAME}/${path}`;
}

/** A time as Node.js takes it: seconds, or a `Date` where it is before 1970, for which it takes no number. */
export function nodeTime(ns: bigint): number | Date {
  const ms = Number(ns) / NS_PER_MS;
  return ns < 0n ? new Date(ms) : ms / MS_PER_SECOND;
}
