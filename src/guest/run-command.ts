// Runs a command to its end: bounded output, deadline, abort.

import type { Deadline } from "../base/deadline.js";
import { throwIfAborted } from "../errors/wait-errors.js";
import type { OutputSink } from "./byte-receiver.js";
import { cutShortError } from "./command-error.js";
import { type CommandInput, feedStdin } from "./command-input.js";
import { type CommandResult, commandResult } from "./command-result.js";
import type { GuestConnection } from "./connection.js";
import { awaitEndOrCut, killAndWait } from "./cut-short.js";
import type { ExecRequest } from "./exec-request.js";
import { OutputBuffer } from "./output-buffer.js";

/** A command to run to its end. */
export interface RunRequest extends Omit<ExecRequest, "hasStdin" | "outputLimitBytes"> {
  readonly stdin?: CommandInput | undefined;
  /** What is kept of each of stdout and stderr, in bytes. */
  readonly maxOutputBytes: number;
  /** Sees all output as it comes. */
  readonly onOutput?: OutputSink | undefined;
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
  if (stdin !== undefined) feedStdin(stream, stdin);

  const cutShort = await awaitEndOrCut(stream, deadline);
  const exit = cutShort === undefined ? await stream.exited : await killAndWait(stream);
  const result = commandResult(exit, outputs, {
    timedOut: cutShort === "timeout",
    durationMs: performance.now() - startedAtMs,
  });
  if (cutShort !== undefined) throw cutShortError(cutShort, result, deadline);
  return result;
}
