// Copies a machine while it goes on. It stands still while Firecracker saves all of its memory and the disk is copied.

import { rm } from "node:fs/promises";
import { Deadline } from "../../base/deadline.js";
import { settleAll } from "../../base/settle-all.js";
import { throwIfAborted } from "../../errors/wait-errors.js";
import type { Captured, CaptureSource, CaptureTarget } from "../backend.js";
import { ApiClient } from "./api/client.js";
import { getInstance, pauseVm, resumeVm } from "./api/requests.js";
import { copyDisk, makeFile } from "./disk-copy.js";
import { apiSocket } from "./places.js";
import { resumeMachine } from "./run-state.js";
import { SavedFiles } from "./saved-files.js";

/**
 * How long a machine whose copy failed may take to go on, in milliseconds: Firecracker first does what it was asked for,
 * also when nobody waits for that any more.
 */
const CONTINUE_LIMIT_MS = 60_000;

/** See {@link Backend.capture}. */
export async function captureMachine(
  source: CaptureSource,
  target: CaptureTarget,
  deadline: Deadline,
): Promise<Captured> {
  throwIfAborted("Copy of a machine", deadline.signal);
  const capture = new Capture(source, target, deadline);
  try {
    return await capture.run();
  } catch (error) {
    await capture.undo();
    throw error;
  } finally {
    capture.leave();
  }
}

class Capture {
  readonly #source: CaptureSource;
  readonly #target: CaptureTarget;
  readonly #deadline: Deadline;
  readonly #client: ApiClient;
  readonly #madeFiles: string[] = [];
  #files: SavedFiles | undefined;
  /** The machine ran before, and does not now. */
  #mustContinue = false;
  /** Undoes what `quiesce` did, where it did something. */
  #unquiet: (() => Promise<void>) | undefined;

  constructor(source: CaptureSource, target: CaptureTarget, deadline: Deadline) {
    this.#source = source;
    this.#target = target;
    this.#deadline = deadline;
    this.#client = new ApiClient(apiSocket(source.runtimeDir));
  }

  async run(): Promise<Captured> {
    const { memoryPath, devicesPath, layerPath } = this.#target;
    for (const path of [memoryPath, devicesPath]) {
      await makeFile(path);
      this.#madeFiles.push(path);
    }
    const files = await SavedFiles.prepare(this.#source.runtimeDir, { memoryPath, devicesPath });
    this.#files = files;
    const captured = await this.#copyStanding(files, layerPath);
    await files.keep(this.#deadline);
    return captured;
  }

  /** Brings everything back to how it was. Does not throw: the error that led here says more. */
  async undo(): Promise<void> {
    if (this.#mustContinue) await this.#continueAnyhow();
    await this.#endQuiet();
    await this.#files?.discard();
    for (const path of this.#madeFiles) await rm(path, { force: true }).catch(() => {});
  }

  leave(): void {
    this.#client.close();
  }

  async #copyStanding(files: SavedFiles, layerPath: string): Promise<Captured> {
    const client = this.#client;
    const deadline = this.#deadline;
    const isRunning = (await client.call(getInstance(), deadline)).state === "Running";
    const quietAt = performance.now();
    if (isRunning) this.#unquiet = await this.#source.quiesce?.();
    const stoppedAt = performance.now();
    this.#mustContinue = isRunning;
    if (isRunning) await client.call(pauseVm(), deadline);
    // Both, also when one fails: nothing may be under way when the rest is undone.
    await settleAll([files.save(client, "Full", deadline), this.#copyDisk(layerPath)]);
    if (isRunning) await client.call(resumeVm(), deadline);
    this.#mustContinue = false;
    const pauseMs = performance.now() - stoppedAt;
    await this.#endQuiet();
    return { pauseMs, quietMs: performance.now() - quietAt };
  }

  async #copyDisk(layerPath: string): Promise<void> {
    await copyDisk({ from: this.#source.disk.path, to: layerPath }, this.#deadline);
    this.#madeFiles.push(layerPath); // Not before: what is there already is somebody else's.
  }

  async #endQuiet(): Promise<void> {
    const unquiet = this.#unquiet;
    this.#unquiet = undefined;
    await unquiet?.();
  }

  async #continueAnyhow(): Promise<void> {
    // Another conversation: in ours, a request that was given up may still be under way, and what comes after it waits.
    await resumeMachine(this.#source.runtimeDir, Deadline.after(CONTINUE_LIMIT_MS)).catch(() => {});
  }
}
