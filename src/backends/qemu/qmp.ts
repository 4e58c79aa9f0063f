// A short conversation with QEMU over its monitor socket (QEMU's docs/interop/qmp-spec). QEMU serves one client at a
// time, so a client says what it came for and leaves.

import { createConnection, type Socket } from "node:net";
import { createInterface } from "node:readline";
import type { Deadline } from "../../base/deadline.js";
import { deferred } from "../../base/deferred.js";
import { within } from "../../base/within.js";
import { SmolVMError } from "../../errors/smolvm-error.js";
import { waitError } from "../../errors/wait-errors.js";

/** A command of the monitor. */
export interface QmpCommand {
  readonly execute: string;
  readonly arguments?: Readonly<Record<string, unknown>>;
}

/** What the monitor sends: a greeting, an answer or an event. */
interface QmpMessage {
  readonly return?: unknown;
  readonly error?: { readonly class?: unknown; readonly desc?: unknown } | null;
}

/**
 * Sends commands to a monitor, one after the other.
 *
 * @returns What each command returned.
 * @throws {CHANNEL_CLOSED} when QEMU is gone or hangs up.
 * @throws {INTERNAL} when QEMU refuses a command; details hold command, class and desc.
 * @throws {TIMEOUT} @throws {ABORTED}
 */
export async function qmp(
  socketPath: string,
  commands: readonly QmpCommand[],
  deadline: Deadline,
): Promise<readonly unknown[]> {
  const socket = createConnection(socketPath);
  try {
    return await within(converse(socket, commands), deadline, () => {
      throw waitError(`QEMU monitor command "${commands.map(({ execute }) => execute).join(", ")}"`, deadline);
    });
  } finally {
    socket.destroy();
  }
}

async function converse(socket: Socket, commands: readonly QmpCommand[]): Promise<readonly unknown[]> {
  const conversation = [{ execute: "qmp_capabilities" }, ...commands];
  const results: unknown[] = [];
  const done = deferred<readonly unknown[]>();
  const lines = createInterface({ input: socket });
  socket.on("error", (error) => done.reject(hungUp(error)));
  socket.on("close", () => done.reject(hungUp()));
  lines.on("error", () => {}); // The socket's own handler has it.
  // All at once: QEMU answers in order, and the greeting needs no answer.
  socket.write(conversation.map((command) => `${JSON.stringify(command)}\n`).join(""));
  lines.on("line", (line) => {
    const message = parse(line);
    if (message.error !== undefined) {
      done.reject(refusal(conversation[results.length], message.error));
    } else if ("return" in message) {
      results.push(message.return);
      if (results.length === conversation.length) done.resolve(results.slice(1));
    }
  });
  return done.promise;
}

function parse(line: string): QmpMessage {
  try {
    const message: unknown = JSON.parse(line);
    return typeof message === "object" && message !== null ? message : {};
  } catch {
    return {};
  }
}

function hungUp(cause?: unknown): SmolVMError {
  return new SmolVMError("CHANNEL_CLOSED", "QEMU's monitor is not there or hung up", { cause });
}

function refusal(command: QmpCommand | undefined, error: QmpMessage["error"]): SmolVMError {
  return new SmolVMError("INTERNAL", `QEMU refused "${command?.execute}": ${error?.desc}`, {
    details: { command, class: error?.class, desc: error?.desc },
  });
}
