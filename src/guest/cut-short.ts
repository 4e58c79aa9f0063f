// Ending a command before its time: what cuts it short, and how it is killed.

import { Deadline } from "../base/deadline.js";
import { within } from "../base/within.js";
import type { ExecExit, ExecStream } from "./exec-stream.js";
import { signalNumber } from "./linux-signals.js";
import { KILL_LIMIT_MS } from "./stream-transport.js";

/** What can end a command before its time. */
export type CutShort = "timeout" | "abort";

/** @returns What cut the command short, if anything. */
export async function awaitEndOrCut(stream: ExecStream, deadline: Deadline): Promise<CutShort | undefined> {
  const over = stream.exited.then(
    () => undefined,
    () => undefined,
  );
  return within(over, deadline, () => (deadline.isAborted ? "abort" : "timeout"));
}

/** @returns How it ended; a death by SIGKILL where the guest did not say so in time. */
export async function killAndWait(stream: ExecStream): Promise<ExecExit> {
  stream.kill();
  const killed = { signal: signalNumber("SIGKILL"), droppedBytes: 0n };
  try {
    // A sink that never resolves must not hold the caller for ever.
    return await within(stream.exited, Deadline.after(KILL_LIMIT_MS), () => killed);
  } catch {
    return killed; // The connection ended, and with it the command.
  }
}
