// One question to a helper program of ours over its control socket: a line of JSON each way.

import { once } from "node:events";
import { createConnection, type Socket } from "node:net";
import type { Deadline } from "../base/deadline.js";
import { within } from "../base/within.js";
import { SmolVMError } from "../errors/smolvm-error.js";
import { throwIfAborted, waitError } from "../errors/wait-errors.js";

/** Longest answer, in bytes. */
const ANSWER_LIMIT_BYTES = 1024 * 1024;

/** What a helper answered. */
export type ControlAnswer =
  | ({ readonly ok: true } & Readonly<Record<string, unknown>>)
  /** `code` is the name of an errno where there is one. */
  | { readonly ok: false; readonly code: string; readonly message: string };

/**
 * Asks a helper.
 *
 * @param socketPath Of its control socket.
 * @returns Its answer; `undefined` when nobody listens there.
 * @throws {NETWORK_FAILED} when it ends, or says something that is no answer. @throws {TIMEOUT} {ABORTED}
 */
export async function controlCall(
  socketPath: string,
  question: Readonly<Record<string, unknown>>,
  deadline: Deadline,
): Promise<ControlAnswer | undefined> {
  const action = `Call of a helper's "${String(question["op"])}"`;
  throwIfAborted(action, deadline.signal);
  const socket = createConnection(socketPath);
  try {
    const expired = () => {
      throw waitError(action, deadline);
    };
    const isConnected = await within(connected(socket), deadline, expired);
    if (!isConnected) return undefined;
    socket.write(`${JSON.stringify(question)}\n`);
    return answerOf(await within(firstLine(socket), deadline, expired), action);
  } finally {
    socket.on("error", () => {});
    socket.destroy();
  }
}

async function connected(socket: Socket): Promise<boolean> {
  try {
    await once(socket, "connect");
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ECONNREFUSED") return false;
    throw new SmolVMError("NETWORK_FAILED", `Cannot connect to a helper: ${code}`, { cause: error });
  }
}

async function firstLine(socket: Socket): Promise<string> {
  let text = "";
  socket.setEncoding("utf8");
  try {
    for await (const chunk of socket) {
      text += chunk;
      if (text.includes("\n") || text.length > ANSWER_LIMIT_BYTES) break;
    }
  } catch {
    // It ended; what it had said counts.
  }
  return text;
}

function answerOf(text: string, action: string): ControlAnswer {
  try {
    const answer: unknown = text.includes("\n") ? JSON.parse(text) : undefined;
    if (typeof answer === "object" && answer !== null && typeof (answer as ControlAnswer).ok === "boolean") {
      return answer as ControlAnswer;
    }
  } catch {
    // Said below.
  }
  throw new SmolVMError("NETWORK_FAILED", `${action} was not answered: the helper ended`, { details: { text } });
}
