// Connections to the guest's agent. Firecracker leads a connection to its unix socket to a port of the guest's once it
// was asked to with a line of text (docs/vsock.md).

import { once } from "node:events";
import { createConnection, type Socket } from "node:net";
import type { Deadline } from "../../base/deadline.js";
import { pollUntil } from "../../base/sleep.js";
import { within } from "../../base/within.js";
import { SmolVMError } from "../../errors/smolvm-error.js";
import { throwIfAborted, waitError } from "../../errors/wait-errors.js";

/**
 * Longest wait for the answer to one request, in milliseconds. A guest whose driver is not there yet never answers, and
 * Firecracker itself gives a request up after 2 s (csm/mod.rs: CONN_REQUEST_TIMEOUT_MS).
 */
const ANSWER_LIMIT_MS = 2_000;
/** Longest pause between two attempts, in milliseconds. */
const RETRY_PAUSE_MS = 10;
/** Longest line that is an answer: `OK`, a port of ten digits. */
const LINE_LIMIT_BYTES = 16;
/** A socket that nobody listens on: not yet, not any more, or left by a VMM that has ended. */
const NOBODY = new Set(["ENOENT", "ECONNREFUSED"]);
/** It listens, and has no time: more clients wait than the kernel keeps. */
const BUSY = "EAGAIN";

/** Where the agent listens. */
export interface AgentAddress {
  readonly socketPath: string;
  readonly port: number;
}

/** Why an attempt did not lead to a listener; all of them may be another matter in a moment. */
export type Absence = "no VMM" | "no listener" | "no answer";

/**
 * Connects to the agent, and waits for it as long as the deadline allows.
 *
 * @throws {TIMEOUT} details say what was missing. @throws {ABORTED}
 * @throws {PROTOCOL_ERROR} when something else than Firecracker answers. @throws {CHANNEL_CLOSED}
 */
export async function connectToAgent(address: AgentAddress, deadline: Deadline): Promise<Socket> {
  const action = `Connection to port ${address.port} of a guest`;
  throwIfAborted(action, deadline.signal);
  let absence: Absence = "no VMM";
  const socket = await pollUntil(
    async () => {
      const found = await attempt(address, deadline);
      if (typeof found !== "string") return found;
      // An attempt that the deadline cut short says less than one before that was refused.
      if (found !== "no answer" || absence !== "no listener") absence = found;
      return undefined;
    },
    deadline,
    RETRY_PAUSE_MS,
  );
  if (socket !== undefined) return socket;
  const error = waitError(action, deadline);
  throw new SmolVMError(error.code, `${error.message}: ${absence}`, {
    details: { ...error.details, absence },
    cause: error,
  });
}

/** One attempt; the socket has been answered, and what came behind the answer is still in it. */
export async function attempt({ socketPath, port }: AgentAddress, deadline: Deadline): Promise<Socket | Absence> {
  const socket = createConnection(socketPath);
  socket.on("error", () => {}); // Whoever waits for something on it hears of it; it may come when nobody does.
  try {
    const bound = deadline.atMost(ANSWER_LIMIT_MS);
    const result = await within(shakeHands(socket, port), bound, () => "no answer" as const);
    if (result !== "connected") socket.destroy();
    return result === "connected" ? socket : result;
  } catch (error) {
    socket.destroy();
    const reason = (error as NodeJS.ErrnoException).code ?? "";
    if (NOBODY.has(reason)) return "no VMM";
    if (reason === BUSY) return "no answer";
    if (reason === "ECONNRESET" || reason === "EPIPE") return "no listener";
    if (error instanceof SmolVMError) throw error;
    throw new SmolVMError("CHANNEL_CLOSED", `Cannot connect to "${socketPath}": ${reason}`, { cause: error });
  }
}

async function shakeHands(socket: Socket, port: number): Promise<"connected" | "no listener"> {
  await once(socket, "connect");
  // In one piece: Firecracker reads the whole line at once.
  socket.write(`CONNECT ${port}\n`);
  const line = await readLine(socket);
  if (line === undefined) return "no listener";
  if (/^OK \d{1,10}$/.test(line)) return "connected";
  throw new SmolVMError("PROTOCOL_ERROR", "What answers at a VM's vsock is not Firecracker", { details: { line } });
}

/** @returns What comes before the line feed; `undefined` when the connection ends first. */
async function readLine(socket: Socket): Promise<string | undefined> {
  let text = Buffer.alloc(0);
  for (;;) {
    const chunk = socket.read() as Buffer | null;
    if (chunk !== null) text = Buffer.concat([text, chunk]);
    const end = text.indexOf(0x0a);
    if (end >= 0) {
      if (end + 1 < text.length) socket.unshift(text.subarray(end + 1));
      return text.toString("latin1", 0, end);
    }
    if (text.length > LINE_LIMIT_BYTES) return text.toString("latin1", 0, LINE_LIMIT_BYTES);
    if (chunk !== null) continue;
    if (socket.readableEnded || socket.destroyed) return undefined;
    await moreOf(socket);
  }
}

function moreOf(socket: Socket): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (act: () => void) => {
      socket.off("readable", readable).off("end", readable).off("close", readable).off("error", failed);
      act();
    };
    const readable = () => settle(resolve);
    const failed = (error: Error) => settle(() => reject(error));
    socket.on("readable", readable).on("end", readable).on("close", readable).on("error", failed);
  });
}
