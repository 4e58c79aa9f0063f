// What a command to run in the guest is, and its `EXEC` payload.

import { SmolVMError } from "../errors/smolvm-error.js";
import { FieldWriter } from "./fields.js";
import { CLIENT_CONTROL_LIMIT_BYTES } from "./frame.js";

/** A program with its arguments, or a line for the user's login shell; an empty line is that shell itself. */
export type GuestCommand = { readonly argv: readonly string[] } | { readonly shellLine: string };

/** A command as the agent is asked to run it. */
export interface ExecRequest {
  readonly command: GuestCommand;
  readonly env?: Readonly<Record<string, string>> | undefined;
  /** Absolute path; the user's home by default. */
  readonly cwd?: string | undefined;
  /** Name or uid; root by default. */
  readonly user?: string | undefined;
  /** The agent drops what exceeds this on each output, in bytes. */
  readonly outputLimitBytes?: number | undefined;
  /** Leave processes alone that outlive the command. */
  readonly keepOrphans?: boolean | undefined;
  /** Whether stdin comes from the client; `/dev/null` otherwise. */
  readonly hasStdin: boolean;
  /** Gives it a pseudo-terminal of this size; all output is stdout then. */
  readonly pty?: PtySize | undefined;
  /** Makes it a process of the VM rather than of this connection. */
  readonly isDetached?: boolean | undefined;
}

/** Size of a terminal in characters, 1 to 65 535 each. */
export interface PtySize {
  readonly cols: number;
  readonly rows: number;
}

/**
 * @throws {COMMAND_FAILED} with `details.errno` `E2BIG` when arguments and environment do not fit a frame.
 */
export function encodeExecRequest(request: ExecRequest): Buffer {
  const fields = new FieldWriter();
  if ("argv" in request.command) fields.texts(1, request.command.argv);
  else fields.text(8, request.command.shellLine);
  fields
    .texts(
      2,
      Object.entries(request.env ?? {}).map(([key, value]) => `${key}=${value}`),
    )
    .text(3, request.cwd)
    .text(4, request.user);
  if (request.outputLimitBytes !== undefined) {
    const limit = BigInt(request.outputLimitBytes);
    fields.u64(5, limit).u64(6, limit);
  }
  fields.flag(7, request.keepOrphans).flag(9, request.hasStdin);
  fields.u32(10, request.pty?.cols).u32(11, request.pty?.rows).flag(12, request.isDetached);
  if (fields.sizeBytes > CLIENT_CONTROL_LIMIT_BYTES) {
    throw new SmolVMError("COMMAND_FAILED", `Cannot run the command: its arguments and environment are too long`, {
      details: { errno: "E2BIG", sizeBytes: fields.sizeBytes, limitBytes: CLIENT_CONTROL_LIMIT_BYTES },
    });
  }
  return fields.finish();
}
