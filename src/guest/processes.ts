// What detached processes a guest has.

import type { Deadline } from "../base/deadline.js";
import { SIGNAL_EXIT_BASE } from "./command-result.js";
import type { GuestConnection } from "./connection.js";
import { PROCESS_ID_PATTERN } from "./exec-stream.js";
import { FieldReader, FieldWriter } from "./fields.js";
import { signalName } from "./linux-signals.js";
import { violation } from "./violation.js";

/** A detached process, as the guest tells of it. */
export interface ProcessInfo {
  readonly id: string;
  readonly pid: number;
  /** The program and its arguments, or the shell's line; cut after some 500 bytes. */
  readonly command: readonly string[] | string;
  readonly user: string;
  readonly startedAt: Date;
  readonly status: "running" | "exited";
  /** 128 plus the signal's number when a signal ended it; `null` while it runs. */
  readonly exitCode: number | null;
  readonly signal: string | null;
  /** Where the oldest output that is kept begins, and where all of it ends, in bytes since the start. */
  readonly output: { readonly start: number; readonly end: number };
  readonly hasPty: boolean;
  /** Whether its stdin can still be written to. */
  readonly takesStdin: boolean;
}

/** @throws {TIMEOUT} @throws {ABORTED} @throws {CHANNEL_CLOSED} @throws {PROTOCOL_ERROR} */
export async function listProcesses(connection: GuestConnection, deadline: Deadline): Promise<ProcessInfo[]> {
  const reply = await connection.call("processes", new FieldWriter(), deadline);
  return reply.allBytes(10).map((payload) => processInfo(new FieldReader(payload)));
}

function processInfo(fields: FieldReader): ProcessInfo {
  const id = fields.text(1);
  const pid = fields.u32(2);
  if (id === undefined || pid === undefined || !PROCESS_ID_PATTERN.test(id)) throw violation("malformed process");
  const exitCode = fields.u32(6);
  const signal = fields.u32(7);
  const hasEnded = exitCode !== undefined || signal !== undefined;
  return {
    id,
    pid,
    command: fields.text(4) ?? fields.texts(3),
    user: fields.text(10) ?? "",
    startedAt: new Date(Number((fields.u64(5) ?? 0n) / 1_000_000n)),
    status: hasEnded ? "exited" : "running",
    exitCode: signal === undefined ? (exitCode ?? null) : SIGNAL_EXIT_BASE + signal,
    signal: signal === undefined ? null : signalName(signal),
    output: { start: Number(fields.u64(8) ?? 0n), end: Number(fields.u64(9) ?? 0n) },
    hasPty: fields.bytes(11)?.[0] === 1,
    takesStdin: fields.bytes(12)?.[0] === 1,
  };
}
