// The copy of a machine's memory, as the program `ramcopy` makes it (agent/cmd/ramcopy says how it is talked with).

import { type FileHandle, open } from "node:fs/promises";
import { createInterface } from "node:readline";
import { Deadline } from "../../base/deadline.js";
import { type Deferred, deferred } from "../../base/deferred.js";
import { within } from "../../base/within.js";
import { fileError } from "../../errors/file-error.js";
import { SmolVMError } from "../../errors/smolvm-error.js";
import { waitError } from "../../errors/wait-errors.js";
import { signalGroup, spawnProgram } from "../../host/process.js";
import { identifyProcess } from "../../host/process-identity.js";

/** Exit statuses of the program. */
const FORBIDDEN = 3;
const STORAGE = 4;
const SOURCE = 5;
/** What is kept of the program's messages, in bytes. */
const MESSAGES_LIMIT_BYTES = 4096;
/** How long the kernel may take to end the program after SIGKILL, in milliseconds. */
const KILL_LIMIT_MS = 10_000;

type ChildProcess = Awaited<ReturnType<typeof spawnProgram>>;

/** What to copy. */
export interface MemoryCopyOptions {
  readonly copierPath: string;
  /** Pid of the VMM. */
  readonly pid: number;
  /** Where the guest's memory begins in the VMM; hexadecimal with `0x`. */
  readonly address: string;
  readonly sizeBytes: number;
  readonly basePath: string | undefined;
  /** An empty file. */
  readonly targetPath: string;
}

export class MemoryCopy {
  readonly #child: ChildProcess;
  readonly #options: MemoryCopyOptions;
  readonly #ready = deferred<void>();
  readonly #copied = deferred<void>();
  readonly #written = deferred<void>();
  readonly #ended = deferred<void>();
  #messages = "";

  private constructor(child: ChildProcess, options: MemoryCopyOptions) {
    this.#child = child;
    this.#options = options;
    for (const { promise } of this.#steps()) promise.catch(() => {});
    child.stdin?.on("error", () => {}); // Its end says more.
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.#messages = (this.#messages + text).slice(-MESSAGES_LIMIT_BYTES);
    });
    if (child.stdout !== null) {
      createInterface({ input: child.stdout }).on("line", (line) => {
        if (line === "ready") this.#ready.resolve();
        if (line.startsWith("copied ")) this.#copied.resolve();
      });
    }
    child.once("close", (code, signal) => void this.#end(code, signal));
  }

  /**
   * Starts the program, which begins at once with what can be done while the machine runs.
   *
   * @throws {STORAGE_FAILED} when a file cannot be opened.
   * @throws {CHANNEL_CLOSED} when the VMM is gone.
   */
  static async start(options: MemoryCopyOptions): Promise<MemoryCopy> {
    const identity = await identifyProcess(options.pid);
    if (identity === undefined) throw goneError(options.pid);
    const files: FileHandle[] = [];
    try {
      files.push(await openFile(options.targetPath, "r+"));
      if (options.basePath !== undefined) files.push(await openFile(options.basePath, "r"));
      const argv = [
        options.copierPath,
        ...["--pid", String(options.pid), "--start-time", identity.startTime],
        ...["--address", options.address, "--size", String(options.sizeBytes)],
        // The files are the first descriptors behind the three that every program has.
        ...["--target-fd", "3", ...(options.basePath === undefined ? [] : ["--base-fd", "4"])],
      ];
      const stdio = ["pipe" as const, "pipe" as const, "pipe" as const, ...files.map(({ fd }) => fd)];
      const child = await spawnProgram(argv, { stdio, detached: true, cwd: "/", env: {} });
      return new MemoryCopy(child, options);
    } finally {
      for (const file of files) await file.close();
    }
  }

  /** Resolves when the machine may be stopped. */
  ready(deadline: Deadline): Promise<void> {
    return this.#wait(this.#ready.promise, deadline);
  }

  /** Takes what has changed; the machine must stand still until it resolves. */
  copy(deadline: Deadline): Promise<void> {
    this.#child.stdin?.write("go\n");
    return this.#wait(this.#copied.promise, deadline);
  }

  /** Resolves when the file is complete. */
  written(deadline: Deadline): Promise<void> {
    return this.#wait(this.#written.promise, deadline);
  }

  /** Ends the program, wherever it is; nothing is written any more afterwards. */
  async kill(): Promise<void> {
    const { pid, exitCode, signalCode } = this.#child;
    if (pid !== undefined && exitCode === null && signalCode === null) signalGroup(pid, "SIGKILL");
    await within(this.#ended.promise, Deadline.after(KILL_LIMIT_MS), () => undefined);
  }

  #steps(): readonly Deferred<void>[] {
    return [this.#ready, this.#copied, this.#written];
  }

  #wait(step: Promise<void>, deadline: Deadline): Promise<void> {
    return within(step, deadline, () => {
      throw waitError("Copy of a machine's memory", deadline);
    });
  }

  async #end(code: number | null, signal: NodeJS.Signals | null): Promise<void> {
    this.#ended.resolve();
    if (code === 0) this.#written.resolve();
    const error = await this.#failure(code, signal);
    for (const step of this.#steps()) step.reject(error); // Without effect on those that are done.
  }

  async #failure(code: number | null, signal: NodeJS.Signals | null): Promise<SmolVMError> {
    const message = this.#messages.trim();
    const { copierPath, pid, targetPath } = this.#options;
    if (code === FORBIDDEN) {
      return new SmolVMError("HOST_UNSUPPORTED", `Cannot copy a running machine's memory: ${message}`, {
        hint: "Allow it with `sysctl kernel.yama.ptrace_scope=0`, or run as root.",
      });
    }
    if (code === STORAGE) return fileError("Copying a machine's memory", targetPath, new Error(message));
    if (code === SOURCE && (await identifyProcess(pid)) === undefined) return goneError(pid);
    const how = signal === null ? `exited with ${code}` : `was killed by ${signal}`;
    return new SmolVMError("HOST_COMMAND_FAILED", `Program "${copierPath}" ${how}: ${message}`, {
      details: { exitCode: code, signal, stderr: message },
    });
  }
}

async function openFile(path: string, flags: string): Promise<FileHandle> {
  try {
    return await open(path, flags);
  } catch (error) {
    throw fileError("Opening a file of a machine's memory", path, error);
  }
}

function goneError(pid: number): SmolVMError {
  return new SmolVMError("CHANNEL_CLOSED", `Cannot copy the machine's memory: its VMM ${pid} has ended`, {
    details: { pid },
  });
}
