// The files that Firecracker saves a machine into. It writes them beside where they are to be, or in its jail, which is
// all that it has; they are moved to their place when they are whole.

import { chown, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Deadline } from "../../base/deadline.js";
import { fileError } from "../../errors/file-error.js";
import { SmolVMError } from "../../errors/smolvm-error.js";
import type { ApiClient } from "./api/client.js";
import { createSnapshot } from "./api/requests.js";
import { copyDisk, makeFile } from "./disk-copy.js";
import { jailUser } from "./jail-user.js";
import { jailRootOf, NAMES } from "./places.js";

/** Where a saved machine is to be. */
export interface SavedPlaces {
  readonly memoryPath: string;
  readonly devicesPath: string;
}

interface Part {
  /** As the VMM calls it. */
  readonly name: string;
  /** As this program does. */
  readonly path: string;
  readonly target: string;
}

export class SavedFiles {
  readonly #runtimeDir: string;
  readonly #memory: Part;
  readonly #devices: Part;

  private constructor(runtimeDir: string, memory: Part, devices: Part) {
    this.#runtimeDir = runtimeDir;
    this.#memory = memory;
    this.#devices = devices;
  }

  /** Makes the files empty, so that nobody else can read what comes into them. @throws {STORAGE_FAILED} */
  static async prepare(runtimeDir: string, { memoryPath, devicesPath }: SavedPlaces): Promise<SavedFiles> {
    const root = jailRootOf(runtimeDir);
    const part = (name: string, target: string): Part =>
      root === undefined
        ? { name: `${target}.part`, path: `${target}.part`, target }
        : { name, path: join(root, name), target };
    const memory = part(NAMES.savedMemory, memoryPath);
    const files = new SavedFiles(runtimeDir, memory, part(NAMES.savedDevices, devicesPath));
    try {
      for (const { path } of files.#parts) {
        await rm(path, { force: true }); // A program that was killed while it saved has left it.
        await makeFile(path);
        if (root !== undefined) await giveTo(path, jailUser(runtimeDir));
      }
    } catch (error) {
      await files.discard();
      throw error;
    }
    return files;
  }

  get #parts(): readonly Part[] {
    return [this.#memory, this.#devices];
  }

  /**
   * Has the machine saved, which must be paused.
   *
   * @param kind `Diff` holds only pages that were written to; that is all of a machine that booted with a record of them.
   * @throws {STORAGE_FAILED} {CHANNEL_CLOSED} {TIMEOUT} {ABORTED}
   */
  async save(client: ApiClient, kind: "Full" | "Diff", deadline: Deadline): Promise<void> {
    const names = { snapshotPath: this.#devices.name, memFilePath: this.#memory.name };
    await client.call(createSnapshot({ ...names, snapshotType: kind }, 0), deadline);
  }

  /** Puts the files to their places, over what is there. @throws {STORAGE_FAILED} {TIMEOUT} {ABORTED} */
  async keep(deadline: Deadline): Promise<void> {
    for (const { path, target } of this.#parts) {
      try {
        if (jailRootOf(this.#runtimeDir) !== undefined) await giveTo(path, process.getuid?.() ?? 0);
        await this.#move(path, target, deadline);
      } catch (error) {
        throw error instanceof SmolVMError ? error : fileError("Moving a saved machine", target, error);
      }
    }
  }

  /** Removes what was not kept. Does not throw: it follows an error that says more. */
  async discard(): Promise<void> {
    for (const { path } of this.#parts) await rm(path, { force: true }).catch(() => {});
  }

  async #move(path: string, target: string, deadline: Deadline): Promise<void> {
    try {
      await rename(path, target);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EXDEV") throw error;
      await rm(target, { force: true });
      await copyDisk({ from: path, to: target }, deadline);
      await rm(path);
    }
  }
}

/** To a user and the group of the same number. A jailed VMM cannot put a link there: its directory is not its own. */
function giveTo(path: string, id: number): Promise<void> {
  return chown(path, id, id);
}
