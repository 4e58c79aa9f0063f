// Copies a machine while it goes on. It stands still only while its changed memory is read, its devices are saved and
// the copy of its disk is started; what comes before and after takes longer.

import { open, rm } from "node:fs/promises";
import { join } from "node:path";
import { Deadline } from "../../base/deadline.js";
import { settleAll } from "../../base/settle-all.js";
import { pollUntil } from "../../base/sleep.js";
import { fileError } from "../../errors/file-error.js";
import { isSmolVMError, SmolVMError } from "../../errors/smolvm-error.js";
import { throwIfAborted, waitError } from "../../errors/wait-errors.js";
import { identifyProcess } from "../../host/process-identity.js";
import type { Captured, CaptureSource, CaptureTarget } from "../backend.js";
import { MONITOR_SOCKET } from "./argv.js";
import { makeFile, saveDevices } from "./device-state.js";
import { DiskCopy, removeLeftCopies } from "./disk-copy.js";
import { MemoryCopy } from "./memory-copy.js";
import { layerOver } from "./own-layer.js";
import { createQcow2Layer } from "./qcow2.js";
import { QmpSession } from "./qmp-session.js";

/** How long a machine whose copy failed may take to go on, in milliseconds. */
const CONTINUE_LIMIT_MS = 10_000;

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
    throw (await machineEnded(source, error)) ?? error;
  } finally {
    capture.leave();
  }
}

/** The program that copies memory may be the first to see that there is no machine any more. */
async function machineEnded({ pid }: CaptureSource, cause: unknown): Promise<SmolVMError | undefined> {
  if (!isSmolVMError(cause, "HOST_COMMAND_FAILED") || (await identifyProcess(pid)) !== undefined) return undefined;
  return new SmolVMError("CHANNEL_CLOSED", "The machine ended while it was copied", { cause });
}

class Capture {
  readonly #source: CaptureSource;
  readonly #target: CaptureTarget;
  readonly #deadline: Deadline;
  readonly #monitorPath: string;
  readonly #madeFiles: string[] = [];
  #session: QmpSession | undefined;
  #memory: MemoryCopy | undefined;
  #disk: DiskCopy | undefined;
  /** The machine ran before, and does not now. */
  #mustContinue = false;
  /** Undoes what `quiesce` did, where it did something. */
  #unquiet: (() => Promise<void>) | undefined;

  constructor(source: CaptureSource, target: CaptureTarget, deadline: Deadline) {
    this.#source = source;
    this.#target = target;
    this.#deadline = deadline;
    this.#monitorPath = join(source.runtimeDir, MONITOR_SOCKET);
  }

  async run(): Promise<Captured> {
    await this.#makeFiles();
    const session = await QmpSession.open(this.#monitorPath, this.#deadline);
    this.#session = session;
    await removeLeftCopies(session, this.#deadline);
    const memory = await this.#startMemoryCopy(session);
    const disk = new DiskCopy(session, this.#target.layerPath);
    this.#disk = disk;
    // All of them, also when one fails: nothing may be under way when the rest is undone.
    await settleAll([memory.ready(this.#deadline), disk.prepare(this.#deadline), this.#flushLayer()]);
    const captured = await this.#copyStanding(session, memory, disk);
    await settleAll([memory.written(this.#deadline), disk.finish(this.#deadline)]);
    return captured;
  }

  /** Brings everything back to how it was. Does not throw: the error that led here says more. */
  async undo(): Promise<void> {
    if (this.#mustContinue) await this.#continueAnyhow();
    await this.#endQuiet();
    await this.#memory?.kill();
    await this.#disk?.cancel().catch(() => {});
    for (const path of this.#madeFiles) await rm(path, { force: true }).catch(() => {});
  }

  leave(): void {
    this.#session?.close();
  }

  async #makeFiles(): Promise<void> {
    const { memoryPath, devicesPath, layerPath } = this.#target;
    for (const path of [memoryPath, devicesPath]) {
      await makeFile(path);
      this.#madeFiles.push(path);
    }
    try {
      await createQcow2Layer({ ...layerOver(this.#source.disk), path: layerPath });
    } catch (error) {
      if (error instanceof SmolVMError) throw error;
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") this.#madeFiles.push(layerPath);
      throw fileError("Creating a layer of a machine's disk", layerPath, error);
    }
    this.#madeFiles.push(layerPath);
  }

  async #startMemoryCopy(session: QmpSession): Promise<MemoryCopy> {
    const address = await memoryAddress(session, this.#deadline);
    const { pid, copierPath, memSizeMib, memoryBasePath: basePath } = this.#source;
    const targetPath = this.#target.memoryPath;
    const options = { pid, copierPath, address, basePath, targetPath, sizeBytes: memSizeMib * 2 ** 20 };
    this.#memory = await MemoryCopy.start(options);
    return this.#memory;
  }

  /** QEMU does it when the machine stops; what the host has on its disk by then does not lengthen the pause. */
  async #flushLayer(): Promise<void> {
    try {
      const file = await open(this.#source.disk.path, "r");
      await file.datasync().finally(() => file.close());
    } catch (error) {
      throw fileError("Writing a machine's disk", this.#source.disk.path, error);
    }
  }

  async #copyStanding(session: QmpSession, memory: MemoryCopy, disk: DiskCopy): Promise<Captured> {
    const deadline = this.#deadline;
    const isRunning = await wasRunning(session, deadline);
    throwIfAborted("Copy of a machine", deadline.signal);
    const quietAt = performance.now();
    if (isRunning) this.#unquiet = await this.#source.quiesce?.();
    const stoppedAt = performance.now();
    this.#mustContinue = isRunning;
    await session.execute({ execute: "stop" }, deadline);
    // Memory before devices: what a socket brings in between is then known to a device and not in memory, which is a
    // lost byte. The other way round, a queue in memory is ahead of its device, which QEMU refuses to load.
    await settleAll([memory.copy(deadline), disk.start(deadline)]);
    await saveDevices(session, this.#target.devicesPath, deadline);
    if (isRunning) await session.execute({ execute: "cont" }, deadline);
    this.#mustContinue = false;
    const pauseMs = performance.now() - stoppedAt;
    await this.#endQuiet();
    return { pauseMs, quietMs: performance.now() - quietAt };
  }

  async #endQuiet(): Promise<void> {
    const unquiet = this.#unquiet;
    this.#unquiet = undefined;
    await unquiet?.();
  }

  async #continueAnyhow(): Promise<void> {
    const deadline = Deadline.after(CONTINUE_LIMIT_MS);
    const command = { execute: "cont" };
    try {
      await this.#session?.execute(command, deadline);
    } catch {
      // Our conversation may have ended, and QEMU not.
      const session = await QmpSession.open(this.#monitorPath, deadline).catch(() => undefined);
      await session?.execute(command, deadline).catch(() => {});
      session?.close();
    }
  }
}

/** Whether it runs; waits until a machine that goes on from an image has done so. */
async function wasRunning(session: QmpSession, deadline: Deadline): Promise<boolean> {
  const look = async () => {
    const answer = await session.execute({ execute: "query-status" }, deadline);
    const { running, status } = answer as { readonly running?: unknown; readonly status?: unknown };
    return status === "inmigrate" ? undefined : running === true;
  };
  const isRunning = await pollUntil(look, deadline);
  if (isRunning === undefined) throw waitError("Start of a machine that is to be copied", deadline);
  return isRunning;
}

/** Where the guest's memory is in QEMU's; all of it is in one piece. */
async function memoryAddress(session: QmpSession, deadline: Deadline): Promise<string> {
  const command = { execute: "human-monitor-command", arguments: { "command-line": "gpa2hva 0" } };
  const answer = await session.execute(command, deadline);
  const address = /^Host virtual address for 0x0 \(.*\) is (0x[0-9a-f]+)\s*$/.exec(String(answer))?.[1];
  if (address !== undefined) return address;
  throw new SmolVMError("INTERNAL", "QEMU does not tell where the guest's memory is", { details: { answer } });
}
