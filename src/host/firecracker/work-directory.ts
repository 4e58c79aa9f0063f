// Where one installation works: <staging>/<pid>-<tag>-<random>. The name says whose it is from the moment it exists. What
// a killed installer left is taken over with one rename, so that two never write to the same file.

import { randomBytes } from "node:crypto";
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { isOwnerAlive, ownedName } from "../owned-name.js";

/** Instead of pid and tag: work that waits for whoever goes on with it. No process has this pid. */
const NOBODY = "0-0000000000000000";
/** In a work directory: what was downloaded so far. */
const ARCHIVE_FILE = "archive.tgz";
/** In a work directory: which download it is of. */
const SOURCE_FILE = "source.json";
/** In a work directory: the programs, which become the release's directory. */
const PROGRAMS_DIRECTORY = "programs";

/** A download, as far as pieces of it fit together. */
export interface DownloadSource {
  readonly url: string;
  /** sha256 that the whole file must have. */
  readonly sha256: string;
}

/** One installation's own directory. */
export class WorkDirectory {
  readonly path: string;
  readonly archivePath: string;
  readonly programsPath: string;
  readonly #stagingDir: string;
  readonly #source: DownloadSource;

  private constructor(stagingDir: string, path: string, source: DownloadSource) {
    this.#stagingDir = stagingDir;
    this.#source = source;
    this.path = path;
    this.archivePath = join(path, ARCHIVE_FILE);
    this.programsPath = join(path, PROGRAMS_DIRECTORY);
  }

  /**
   * Takes over the largest piece of the same download that nobody works on any more, or begins with nothing. Whatever else
   * was left behind is removed.
   */
  static async open(stagingDir: string, source: DownloadSource): Promise<WorkDirectory> {
    const path = join(stagingDir, await ownedName());
    // Whatever the umask is: a copy that others may write to is not executed.
    await mkdir(stagingDir, { recursive: true, mode: 0o755 });
    let isTaken = false;
    for (const left of await abandoned(stagingDir, source)) {
      isTaken ||= left.sizeBytes > 0 && (await renamed(left.path, path));
      await removeTree(left.path);
    }
    if (!isTaken) await mkdir(path, { mode: 0o700 });
    await removeTree(join(path, PROGRAMS_DIRECTORY));
    return new WorkDirectory(stagingDir, path, source);
  }

  /** What the server calls the version of the file that the archive is a piece of; `undefined` when that is unknown. */
  async readEtag(): Promise<string | undefined> {
    return (await readSource(this.path))?.etag;
  }

  /** Before a byte of it is written. */
  async writeEtag(etag: string | undefined): Promise<void> {
    await writeFile(join(this.path, SOURCE_FILE), JSON.stringify({ ...this.#source, etag }));
  }

  /** Forgets what was downloaded. */
  async discardArchive(): Promise<void> {
    await rm(this.archivePath, { force: true });
  }

  /** Ends the work. `keep`: the next installation goes on with the archive, as far as there is one. */
  async close({ keep }: { readonly keep: boolean }): Promise<void> {
    if (keep && (await sizeOf(this.archivePath)) > 0) {
      await removeTree(this.programsPath);
      const left = join(this.#stagingDir, `${NOBODY}-${randomBytes(6).toString("hex")}`);
      if (await renamed(this.path, left)) return;
    }
    await removeTree(this.path);
  }
}

interface Abandoned {
  readonly path: string;
  /** Of a piece of the same download; 0 otherwise. */
  readonly sizeBytes: number;
}

/** Work directories whose owners are no more, the largest piece first. */
async function abandoned(stagingDir: string, source: DownloadSource): Promise<readonly Abandoned[]> {
  const found: Abandoned[] = [];
  for (const name of await readdir(stagingDir)) {
    if (await isOwnerAlive(name)) continue;
    const path = join(stagingDir, name);
    const stored = await readSource(path);
    const isSame = stored?.url === source.url && stored.sha256 === source.sha256;
    found.push({ path, sizeBytes: isSame ? await sizeOf(join(path, ARCHIVE_FILE)) : 0 });
  }
  return found.sort((a, b) => b.sizeBytes - a.sizeBytes);
}

/** `undefined` when there is none, or only a part of it was written. */
async function readSource(directory: string): Promise<(DownloadSource & { readonly etag?: string }) | undefined> {
  try {
    const stored: unknown = JSON.parse(await readFile(join(directory, SOURCE_FILE), "utf8"));
    if (typeof stored !== "object" || stored === null) return undefined;
    const { url, sha256, etag } = stored as Record<string, unknown>;
    if (typeof url !== "string" || typeof sha256 !== "string") return undefined;
    return { url, sha256, ...(typeof etag === "string" ? { etag } : {}) };
  } catch {
    return undefined;
  }
}

async function sizeOf(path: string): Promise<number> {
  const info = await stat(path).catch(() => undefined);
  return info?.isFile() === true ? info.size : 0;
}

/** @returns False when another process was faster. */
async function renamed(from: string, to: string): Promise<boolean> {
  try {
    await rename(from, to);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return false;
    throw error;
  }
}

/** Another process may be removing the same tree: retries cover what appears or goes meanwhile. */
function removeTree(directory: string): Promise<void> {
  return rm(directory, { recursive: true, force: true, maxRetries: 3, retryDelay: 50 });
}
