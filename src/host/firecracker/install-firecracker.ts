// Installs the pinned Firecracker into the cache directory: downloaded, checked, unpacked, asked for its version, and put
// in place with one rename. Needs no root. Only set-up calls it: creating a VM never downloads anything.

import { createHash } from "node:crypto";
import { chmod, mkdir, open, readFile, rename } from "node:fs/promises";
import { dirname, join } from "node:path";
import { Deadline, type WaitOptions } from "../../base/deadline.js";
import type { ProgressListener } from "../../base/progress.js";
import { sleep } from "../../base/sleep.js";
import { invalidConfig } from "../../errors/invalid-config.js";
import { SmolVMError } from "../../errors/smolvm-error.js";
import { throwIfAborted } from "../../errors/wait-errors.js";
import { type Architecture, hostArchitecture } from "../architecture.js";
import { firecrackerMirror, type HostPaths, hostPaths } from "../paths.js";
import { type DownloadLimits, download } from "./download.js";
import { type FoundFirecracker, findInstalled } from "./find-firecracker.js";
import { identifyProgram } from "./identify-program.js";
import { asInstallError, canResumeAfter, installError } from "./install-error.js";
import { firecrackerLayout, releaseDirectory } from "./layout.js";
import { findForeign } from "./own-files.js";
import { archiveEntries, archiveUrl, type FirecrackerRelease, PINNED_RELEASE, RELEASES_URL } from "./releases.js";
import { unpackPrograms } from "./unpack.js";
import type { FirecrackerProgramName } from "./version.js";
import { WorkDirectory } from "./work-directory.js";

/** Which release is installed, and where from. */
export interface InstallChoice {
  /** Default: the host's. */
  readonly paths?: Pick<HostPaths, "cacheDir"> | undefined;
  /** Default {@link PINNED_RELEASE}. */
  readonly release?: FirecrackerRelease | undefined;
  readonly architecture?: Architecture | undefined;
  /** Address of a tree like {@link RELEASES_URL}. Default `SMOLVM_FIRECRACKER_MIRROR`, else that one. */
  readonly mirror?: string | undefined;
}

/** Options of {@link installFirecracker}. */
export interface InstallOptions extends InstallChoice, WaitOptions {
  readonly onProgress?: ProgressListener | undefined;
  readonly limits?: Partial<DownloadLimits> | undefined;
}

/** What an installation would do. */
export interface InstallPlan {
  /** Without the `v`. */
  readonly version: string;
  readonly url: string;
  readonly sha256: string;
  /** Where the programs come to lie. */
  readonly directory: string;
}

/**
 * Says what {@link installFirecracker} would do, and does nothing.
 *
 * @throws {HOST_UNSUPPORTED} when no sha256 is known for this architecture, or this is not Linux.
 * @throws {INVALID_CONFIG} naming `mirror`.
 */
export function planInstall(choice: InstallChoice = {}): InstallPlan {
  const { version, sha256 } = choice.release ?? PINNED_RELEASE;
  const architecture = choice.architecture ?? hostArchitecture();
  const known = sha256[architecture];
  if (known === undefined || process.platform !== "linux") {
    const why =
      known === undefined ? `no sha256 of its archive for ${architecture} is known` : "it exists on Linux only";
    throw new SmolVMError("HOST_UNSUPPORTED", `Cannot install Firecracker v${version}: ${why}`, {
      details: { version, architecture, platform: process.platform },
      hint: known === undefined ? "Put `firecracker` and `jailer` of a release on PATH." : "Use the QEMU backend.",
    });
  }
  const layout = firecrackerLayout(choice.paths ?? hostPaths());
  const url = archiveUrl(checkedMirror(choice.mirror ?? firecrackerMirror() ?? RELEASES_URL), version, architecture);
  return { version, url, sha256: known, directory: releaseDirectory(layout, version, architecture) };
}

/** Bound of a whole installation, in milliseconds: 7.5 MB over a slow line. */
const DEFAULT_TIMEOUT_MS = 10 * 60_000;

/**
 * Installs Firecracker and its jailer, unless they are there. After a failure nothing of it is there, but the piece of a
 * download that was cut short, with which the next call goes on.
 *
 * @param options.timeoutMs Default 10 minutes.
 * @throws {HOST_UNSUPPORTED} {INVALID_CONFIG} as {@link planInstall}, and when the programs do not run here.
 * @throws {TRANSFER_FAILED} when the archive cannot be had, or is not the one whose sha256 is known.
 * @throws {STORAGE_FAILED} when it cannot be written.
 * @throws {TIMEOUT} {ABORTED}
 */
export async function installFirecracker(options: InstallOptions = {}): Promise<FoundFirecracker> {
  const deadline = Deadline.from(options, DEFAULT_TIMEOUT_MS);
  throwIfAborted("Installation of Firecracker", deadline.signal);
  const plan = planInstall(options);
  const there = await findInstalled(deadline, options);
  return there ?? (await new Installation(plan, options, deadline).run());
}

class Installation {
  readonly #plan: InstallPlan;
  readonly #options: InstallOptions;
  readonly #deadline: Deadline;

  constructor(plan: InstallPlan, options: InstallOptions, deadline: Deadline) {
    this.#plan = plan;
    this.#options = options;
    this.#deadline = deadline;
  }

  async run(): Promise<FoundFirecracker> {
    let keep = false;
    let work: WorkDirectory | undefined;
    try {
      work = await this.#openWork();
      const archive = await this.#fetch(work);
      await this.#unpack(archive, work);
      return await this.#place(work);
    } catch (error) {
      keep = canResumeAfter(error);
      throw asInstallError(error, this.#plan.directory);
    } finally {
      await work?.close({ keep }).catch(() => {}); // Never hides how it ended; the next installation tidies up.
    }
  }

  async #openWork(): Promise<WorkDirectory> {
    const layout = firecrackerLayout(this.#options.paths ?? hostPaths());
    // Whatever the umask is: a copy that others may write to is not executed.
    await mkdir(layout.rootDir, { recursive: true, mode: 0o755 });
    const problem = await findForeign([layout.cacheDir, layout.rootDir]);
    if (problem !== undefined) {
      const hint = "If nobody else put files there, run `chmod go-w` on it; else choose another SMOLVM_CACHE_DIR.";
      throw new SmolVMError("STORAGE_FAILED", `Cannot install Firecracker: ${problem}`, { hint });
    }
    return WorkDirectory.open(layout.stagingDir, { url: this.#plan.url, sha256: this.#plan.sha256 });
  }

  /** The archive, whose sha256 is the known one. */
  async #fetch(work: WorkDirectory): Promise<Buffer> {
    const { url, sha256, version } = this.#plan;
    const step = `Downloading Firecracker v${version}`;
    const { onProgress, limits } = this.#options;
    onProgress?.({ step });
    const onBytes = (doneBytes: number, totalBytes: number | undefined) =>
      onProgress?.({ step, ...progressOf(doneBytes, totalBytes) });
    for (;;) {
      const hasOldPiece = await download({ url, work, deadline: this.#deadline, limits, onBytes });
      const archive = await readFile(work.archivePath);
      const actual = createHash("sha256").update(archive).digest("hex");
      if (actual === sha256) return archive;
      await work.discardArchive();
      if (hasOldPiece) continue; // The piece from before may be the bad one.
      throw installError(`Cannot use "${url}": its sha256 is ${actual}, needed is ${sha256}`, {
        details: { url, expected: sha256, actual },
        hint: "Nothing was unpacked. The server, or something on the way to it, gives another file: try another mirror.",
      });
    }
  }

  async #unpack(archive: Buffer, work: WorkDirectory): Promise<void> {
    const { version } = this.#plan;
    this.#options.onProgress?.({ step: "Unpacking Firecracker" });
    await mkdir(work.programsPath, { mode: 0o755 });
    await chmod(work.programsPath, 0o755);
    const entries = archiveEntries(version, this.#options.architecture ?? hostArchitecture());
    await unpackPrograms(archive, work.programsPath, entries);
    await syncDirectory(work.programsPath);
    for (const name of ["firecracker", "jailer"] as const) await this.#checkVersion(name, work.programsPath);
  }

  async #checkVersion(name: FirecrackerProgramName, directory: string): Promise<void> {
    const { version } = this.#plan;
    const program = await identifyProgram(name, join(directory, name), this.#deadline);
    if (program.version.text === version) return;
    throw installError(
      `Cannot use "${this.#plan.url}": its ${name} is v${program.version.text}, needed is v${version}`,
    );
  }

  /** Whoever is first wins; the others use what is there then. */
  async #place(work: WorkDirectory): Promise<FoundFirecracker> {
    const { directory } = this.#plan;
    let isPlaced = false;
    for (let attempt = 0; attempt < PLACE_ATTEMPTS; attempt++) {
      isPlaced ||= await renamedTo(work.programsPath, directory);
      if (isPlaced) await syncDirectory(dirname(directory));
      const found = await findInstalled(this.#deadline, this.#options);
      if (found !== undefined) return found;
      // Only who has another one to put there moves a copy away that is of no use; it goes with the work directory.
      if (isPlaced) await sleep(PLACE_PAUSE_MS, this.#deadline.signal);
      else await renamedTo(directory, join(work.path, `damaged-${attempt}`));
    }
    throw new SmolVMError("BUSY", `Cannot install Firecracker: something else keeps changing "${directory}"`, {
      details: { directory },
    });
  }
}

/** How often it is tried to put a copy in place while other installers do the same. */
const PLACE_ATTEMPTS = 8;
/** Pause while another installer puts its copy in the place of ours, in milliseconds. */
const PLACE_PAUSE_MS = 50;

/** What rename(2) says when the target is a directory with something in it, or the source is gone. */
const NOT_RENAMED: ReadonlySet<string | undefined> = new Set(["ENOTEMPTY", "EEXIST", "ENOENT"]);

async function renamedTo(from: string, to: string): Promise<boolean> {
  try {
    await rename(from, to);
    return true;
  } catch (error) {
    if (NOT_RENAMED.has((error as NodeJS.ErrnoException).code)) return false;
    throw error;
  }
}

async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

const MEGABYTE = 1_000_000;

function progressOf(doneBytes: number, totalBytes: number | undefined): { detail: string; fraction?: number } {
  const done = (doneBytes / MEGABYTE).toFixed(1);
  if (totalBytes === undefined) return { detail: `${done} MB` };
  const fraction = Math.min(1, doneBytes / Math.max(1, totalBytes));
  return { detail: `${done} of ${(totalBytes / MEGABYTE).toFixed(1)} MB`, fraction };
}

/** An address to which paths can be appended. `http:` too: what comes from there is checked against a known sha256. */
function checkedMirror(mirror: string): string {
  const url = URL.canParse(mirror) ? new URL(mirror) : undefined;
  const isPlain =
    url !== undefined && url.username === "" && url.password === "" && url.search === "" && url.hash === "";
  if (isPlain && (url.protocol === "https:" || url.protocol === "http:")) return mirror;
  throw invalidConfig({
    field: "mirror",
    value: isPlain ? mirror : "[an address that is not plain]",
    expected: "an http or https URL without user, query or fragment",
  });
}
