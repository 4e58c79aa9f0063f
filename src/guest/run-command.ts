// Runs a command to its end: bounded output, deadline, abort. The one way all commands take.

import { Readable } from "node:stream";
import { Deadline } from "../base/deadline.js";
import { within } from "../base/within.js";
import { SmolVMError } from "../errors/smolvm-error.js";
import { throwIfAborted } from "../errors/wait-errors.js";
import { CommandError } from "./command-error.js";
import type { GuestConnection } from "./connection.js";
import type { ExecRequest } from "./exec-request.js";
import { type ExecExit, type ExecStream, KILL_LIMIT_MS, type OutputSink } from "./exec-stream.js";
import { signalName, signalNumber } from "./linux-signals.js";
import { OutputBuffer } from "./output-buffer.js";

/** What a shell reports for a command that a signal ended: this plus the signal's number. */
const SIGNAL_EXIT_BASE = 128;

/** Input of a command. An iterable is told to stop (`return()`), a stream is destroyed, when the command has ended. */
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
  const over = stream.exited.then(
    () => undefined,
    () => undefined,
  );
  return within(over, deadline, () => (deadline.isAborted ? "abort" : "timeout"));
}

/** @returns How it ended, or `undefined` when the guest did not say so in time. */
async function killAndWait(stream: ExecStream): Promise<ExecExit> {
  stream.kill();
  const killed = { signal: signalNumber("SIGKILL"), droppedBytes: 0n };
  try {
    // A sink that never resolves must not hold the caller for ever.
    return await within(stream.exited, Deadline.after(KILL_LIMIT_MS), () => killed);
  } catch {
    return killed; // The connection ended, and with it the command.
  }
}

/** Writes the input to the command; once the command takes no more, the input's source is let go. */
function feed(stream: ExecStream, input: CommandInput): void {
  // Not left to `for await`: that would stop a source only after its next part, which may never come.
  const write = async () => {
    const source = sourceOf(input);
    void stream.stdinClosed.then(() => source.stop());
    while (stream.takesStdin) {
      const part = await source.next();
      if (part === undefined) return stream.endStdin();
      await stream.writeStdin(typeof part === "string" ? Buffer.from(part, "utf8") : part);
    }
  };
  write().catch((cause: unknown) => {
    if (!stream.takesStdin) return; // How a source takes that it is stopped is not the command's failure.
    stream.abandon(new SmolVMError("COMMAND_FAILED", "Cannot run the command: reading its stdin failed", { cause }));
  });
}

/** Where input comes from. */
interface InputSource {
  /** @returns The next part, or `undefined` at the end. */
  next(): Promise<string | Uint8Array | undefined>;
  /** Says that nothing more is wanted; nothing happens at the end. */
  stop(): void;
}

function sourceOf(input: CommandInput): InputSource {
  if (typeof input === "string" || input instanceof Uint8Array) {
    const parts = [input];
    return { next: async () => parts.pop(), stop: () => {} };
  }
  const iterator = input[Symbol.asyncIterator]();
  let isAtEnd = false;
  return {
    next: async () => {
      try {
        const { done, value } = await iterator.next();
        isAtEnd = done === true;
        return isAtEnd ? undefined : value;
      } catch (error) {
        isAtEnd = true;
        throw error;
      }
    },
    stop: () => {
      if (isAtEnd) return;
      isAtEnd = true;
      // A generator takes this only between two parts; a stream that waits for data is ended by nothing else.
      if (input instanceof Readable) input.destroy();
      const end = async () => iterator.return?.();
      end().catch(() => {});
    },
  };
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
