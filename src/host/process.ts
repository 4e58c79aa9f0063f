// The only door to child processes: argv arrays, both outputs drained, every wait bounded.
// Nothing here goes through a shell.

import { type ChildProcess, type SpawnOptions, spawn } from "node:child_process";
import { once } from "node:events";
import { Deadline, type WaitOptions } from "../base/deadline.js";
import { within } from "../base/within.js";
import { SmolVMError } from "../errors/smolvm-error.js";
import { throwIfAborted, waitError } from "../errors/wait-errors.js";
import { childEnvironment } from "./paths.js";

/** What is kept of a failed program's stderr in an error, in bytes. */
const STDERR_TAIL_BYTES = 4096;
/** What is kept of a program's stdout unless asked otherwise, in bytes. */
const STDOUT_LIMIT_BYTES = 16 * 1024 * 1024;
/** Time between SIGTERM and SIGKILL, in milliseconds. */
const TERM_GRACE_MS = 2_000;

/** Options of {@link runProgram}. */
export interface RunProgramOptions extends WaitOptions {
  readonly cwd?: string;
  /** The whole environment of the child; `childEnvironment()` by default. */
  readonly env?: Readonly<Record<string, string>>;
  readonly stdin?: string | Uint8Array;
  /** Exit codes that are results rather than failures. Default `[0]`. */
  readonly okExitCodes?: readonly number[];
  /** Receives each line of stderr as it comes. */
  readonly onStderrLine?: (line: string) => void;
  /** Receives each line of stdout as it comes. */
  readonly onStdoutLine?: (line: string) => void;
}

/** How a program ended. */
export interface ProgramResult {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Default bound of a helper program, in milliseconds. */
const DEFAULT_TIMEOUT_MS = 60_000;

/**
 * Runs a program to its end, in a process group of its own that is killed whole on abort or timeout.
 *
 * @throws {HOST_UNSUPPORTED} when the program is not installed.
 * @throws {HOST_COMMAND_FAILED} when it ends otherwise than asked; details hold argv, exitCode, signal and stderr.
 * @throws {TIMEOUT} after `timeoutMs` (default 60 000).
 * @throws {ABORTED} when `signal` fires.
 */
export async function runProgram(argv: readonly string[], options: RunProgramOptions = {}): Promise<ProgramResult> {
  const action = `Program "${argv[0]}"`;
  throwIfAborted(action, options.signal);
  const deadline = Deadline.from(options, DEFAULT_TIMEOUT_MS);
  const child = await spawnProgram(argv, {
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.env === undefined ? {} : { env: { ...options.env } }),
    stdio: ["pipe", "pipe", "pipe"],
    detached: true,
  });
  const exited = once(child, "close") as Promise<[number | null, NodeJS.Signals | null]>;
  const stdout = collect(child.stdout, STDOUT_LIMIT_BYTES, options.onStdoutLine);
  const stderr = collect(child.stderr, STDERR_TAIL_BYTES, options.onStderrLine);
  child.stdin?.on("error", () => {}); // The program may end without reading it all.
  child.stdin?.end(options.stdin);

  const end = await within(exited, deadline, () => undefined);
  if (end === undefined) {
    await killGroup(child, exited);
    throw waitError(action, deadline);
  }
  const [code, signal] = end;
  const result = { exitCode: code ?? -1, stdout: stdout(), stderr: stderr() };
  if (signal !== null || !(options.okExitCodes ?? [0]).includes(result.exitCode)) {
    const how = signal === null ? `exited with ${result.exitCode}` : `was killed by ${signal}`;
    throw new SmolVMError("HOST_COMMAND_FAILED", `${action} ${how}: ${lastLine(result.stderr)}`, {
      details: { argv, exitCode: code, signal, stderr: result.stderr },
    });
  }
  return result;
}

/**
 * Starts a program and returns once the kernel has executed it.
 *
 * @throws {HOST_UNSUPPORTED} when the program is not installed or may not be executed.
 */
export async function spawnProgram(argv: readonly string[], options: SpawnOptions): Promise<ChildProcess> {
  const [file, ...args] = argv;
  if (file === undefined) throw new SmolVMError("INTERNAL", "Cannot spawn a program: argv is empty");
  try {
    // Some failures are thrown here (NUL in an argument, E2BIG), others come as an event.
    const child = spawn(file, args, { ...options, env: options.env ?? childEnvironment(), shell: false });
    await once(child, "spawn");
    return child;
  } catch (error) {
    const reason = (error as NodeJS.ErrnoException).code;
    if (reason === "ENOENT" || reason === "EACCES") {
      throw new SmolVMError("HOST_UNSUPPORTED", `Cannot run "${file}": it is not installed or not executable`, {
        details: { program: file, reason },
        cause: error,
      });
    }
    throw new SmolVMError("HOST_COMMAND_FAILED", `Cannot start "${file}": ${String(error)}`, {
      details: { argv, reason },
      cause: error,
    });
  }
}

/** Sends a signal to a process group; false when the group is gone. */
export function signalGroup(groupId: number, signal: NodeJS.Signals): boolean {
  try {
    process.kill(-groupId, signal);
    return true;
  } catch {
    return false;
  }
}

async function killGroup(child: ChildProcess, exited: Promise<unknown>): Promise<void> {
  if (child.pid === undefined) return;
  signalGroup(child.pid, "SIGTERM");
  const gone = await within(exited, Deadline.after(TERM_GRACE_MS), () => undefined);
  // Also when the program itself is gone: what it started may have ignored SIGTERM.
  signalGroup(child.pid, "SIGKILL");
  if (gone !== undefined) return;
  // A process that left the group may hold the outputs open for ever; they are of no use any more.
  child.stdout?.destroy();
  child.stderr?.destroy();
  await exited;
}

/** Keeps the last `limitBytes` of a stream and splits it into lines for `onLine`. */
function collect(
  stream: NodeJS.ReadableStream | null,
  limitBytes: number,
  onLine: ((line: string) => void) | undefined,
): () => string {
  let chunks: Buffer[] = [];
  let sizeBytes = 0;
  let partial = "";
  stream?.on("data", (chunk: Buffer) => {
    chunks.push(chunk);
    sizeBytes += chunk.length;
    if (sizeBytes > 2 * limitBytes) {
      chunks = [Buffer.concat(chunks).subarray(-limitBytes)];
      sizeBytes = limitBytes;
    }
    if (onLine === undefined) return;
    const lines = (partial + chunk.toString("utf8")).split(/\r?\n|\r/);
    partial = (lines.pop() ?? "").slice(-limitBytes);
    for (const line of lines) onLine(line);
  });
  stream?.once("end", () => {
    if (partial !== "") onLine?.(partial);
  });
  return () => Buffer.concat(chunks).subarray(-limitBytes).toString("utf8");
}

function lastLine(text: string): string {
  return text.trimEnd().split("\n").pop() ?? "";
}
