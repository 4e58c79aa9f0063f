// Runs a command to its end: bounded output, deadline, abort. The one way all commands take.

import type { Deadline } from "../base/deadline.js";
import { sleep } from "../base/sleep.js";
import { SmolVMError } from "../errors/smolvm-error.js";
import { throwIfAborted } from "../errors/wait-errors.js";
import { CommandError } from "./command-error.js";
import type { GuestConnection } from "./connection.js";
import type { ExecRequest } from "./exec-request.js";
import type { ExecExit, ExecStream, OutputSink } from "./exec-stream.js";
import { signalName, signalNumber } from "./linux-signals.js";
import { OutputBuffer } from "./output-buffer.js";

/** How long a killed command may take to be reported dead, in milliseconds. */
const KILL_GRACE_MS = 10_000;
/** What a shell reports for a command that a signal ended: this plus the signal's number. */
const SIGNAL_EXIT_BASE = 128;

/** Input of a command. */
export type CommandInput = string | Uint8Array | AsyncIterable<Uint8Array | string>;

/** A command to run to its end. */
export interface RunRequest extends Omit<ExecRequest, "hasStdin" | "outputLimitBytes"> {
  readonly stdin?: CommandInput | undefined;
  /** What is kept of each of stdout and stderr, in bytes. */
  readonly maxOutputBytes: number;
  /** Sees all output as it comes. */
  readonly onOutput?: OutputSink | undefined;
}

/** How a command ended, and what it said. */
export interface CommandResult {
  /** 0 to 255; 128 plus the signal's number when a signal ended it. */
  readonly exitCode: number;
  /** Name of the signal that ended it, else `null`. */
  readonly signal: string | null;
  readonly stdout: string;
  readonly stderr: string;
  /** `stdout` without white space around it. */
  readonly output: string;
  /** True when it exited with 0. */
  readonly ok: boolean;
  /** True when its timeout ended it. */
  readonly timedOut: boolean;
  /** True when `stdout` or `stderr` is not all of it. */
  readonly truncated: boolean;
  readonly durationMs: number;
}

/**
 * @throws {COMMAND_TIMEOUT} @throws {ABORTED} Both are a {@link CommandError} with the result so far; every process of
 *   the command is gone.
 * @throws {COMMAND_FAILED} with `details.errno` when it could not be started.
 * @throws {CHANNEL_CLOSED} @throws {PROTOCOL_ERROR}
 */
export async function runCommand(
  connection: GuestConnection,
  request: RunRequest,
  deadline: Deadline,
): Promise<CommandResult> {
  throwIfAborted("The command", deadline.signal);
  const startedAtMs = performance.now();
  const outputs = {
    stdout: new OutputBuffer(request.maxOutputBytes),
    stderr: new OutputBuffer(request.maxOutputBytes),
  };
  const { onOutput, stdin, maxOutputBytes, ...command } = request;
  const stream = connection.exec(
    // With nobody else to see it, the agent drops what we would drop.
    {
      ...command,
      hasStdin: stdin !== undefined,
      outputLimitBytes: onOutput === undefined ? maxOutputBytes : undefined,
    },
    (name, data) => {
      outputs[name].push(data);
      return onOutput?.(name, data);
    },
  );
  if (stdin !== undefined) feed(stream, stdin);

  const cutShort = await firstOf(stream, deadline);
  const exit = cutShort === undefined ? await stream.exited : await killAndWait(stream);
  const result = commandResult(exit, outputs, {
    timedOut: cutShort === "timeout",
    durationMs: performance.now() - startedAtMs,
  });
  if (cutShort === "timeout") {
    const timeoutMs = deadline.limitMs;
    throw new CommandError("COMMAND_TIMEOUT", `The command ran longer than ${timeoutMs} ms and was killed`, {
      result,
      timeoutMs,
    });
  }
  if (cutShort === "abort") {
    const cause = deadline.signal?.reason;
    throw new CommandError("ABORTED", "The command was aborted by the caller and killed", { result, cause });
  }
  return result;
}

/** @returns What cut the command short, if anything. */
async function firstOf(stream: ExecStream, deadline: Deadline): Promise<"timeout" | "abort" | undefined> {
  const cancel = new AbortController();
  const signals = deadline.signal === undefined ? cancel.signal : AbortSignal.any([deadline.signal, cancel.signal]);
  const isOver = await Promise.race([
    stream.exited.then(
      () => true,
      () => true,
    ),
    sleep(deadline.remainingMs, signals).then(() => false),
  ]);
  cancel.abort();
  if (isOver) return undefined;
  return deadline.isAborted ? "abort" : "timeout";
}

/** @returns How it ended, or `undefined` when the guest did not say so in time. */
async function killAndWait(stream: ExecStream): Promise<ExecExit> {
  stream.kill();
  const cancel = new AbortController();
  const killed = { signal: signalNumber("SIGKILL"), droppedBytes: 0n };
  try {
    // A sink that never resolves must not hold the caller for ever.
    return await Promise.race([stream.exited, sleep(KILL_GRACE_MS, cancel.signal).then(() => killed)]);
  } catch {
    return killed; // The connection ended, and with it the command.
  } finally {
    cancel.abort();
  }
}

function feed(stream: ExecStream, input: CommandInput): void {
  const write = async () => {
    const parts = typeof input === "string" || input instanceof Uint8Array ? [input] : input;
    for await (const part of parts) {
      if (stream.hasEnded) return;
      await stream.writeStdin(typeof part === "string" ? Buffer.from(part, "utf8") : part);
    }
    stream.endStdin();
  };
  write().catch((error: unknown) => {
    stream.kill();
    stream.fail(
      new SmolVMError("COMMAND_FAILED", "Cannot run the command: reading its stdin failed", { cause: error }),
    );
  });
}

function commandResult(
  exit: ExecExit,
  outputs: { readonly stdout: OutputBuffer; readonly stderr: OutputBuffer },
  circumstances: Pick<CommandResult, "timedOut" | "durationMs">,
): CommandResult {
  const stdout = outputs.stdout.toString();
  const isSignalled = "signal" in exit;
  const exitCode = isSignalled ? SIGNAL_EXIT_BASE + exit.signal : exit.exitCode;
  return {
    exitCode,
    signal: isSignalled ? signalName(exit.signal) : null,
    stdout,
    stderr: outputs.stderr.toString(),
    output: stdout.trim(),
    ok: exitCode === 0,
    truncated: outputs.stdout.isTruncated || outputs.stderr.isTruncated || exit.droppedBytes > 0n,
    ...circumstances,
  };
}
