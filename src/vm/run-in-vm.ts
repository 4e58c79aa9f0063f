// Runs a command in a running VM.

import { Deadline } from "../base/deadline.js";
import { isSmolVMError, SmolVMError } from "../errors/smolvm-error.js";
import { CommandError } from "../guest/command-error.js";
import type { GuestConnection } from "../guest/connection.js";
import type { GuestCommand } from "../guest/exec-request.js";
import { type CommandResult, runCommand } from "../guest/run-command.js";
import type { VmRow } from "../storage/vm-store.js";
import { findVm } from "./claim.js";
import type { CheckedCommandOptions } from "./command-options.js";
import type { VmContext } from "./context.js";
import type { GuestAddress } from "./guest-channels.js";
import { HELP_TO_RUN } from "./lifecycle.js";
import { refreshVm } from "./refresh-vm.js";
import { runtimeDirectory } from "./resources.js";
import { decodeSpec } from "./vm-spec.js";

export { CommandError } from "../guest/command-error.js";
export type { CommandResult } from "../guest/run-command.js";

/**
 * @throws {VM_NOT_FOUND}
 * @throws {INVALID_STATE} when the VM does not run, naming the call that helps.
 * @throws {COMMAND_FAILED} with `check`, or with `details.errno` when the command could not be started.
 * @throws {COMMAND_TIMEOUT} {ABORTED} as a {@link CommandError} with the result so far.
 * @throws {CHANNEL_CLOSED} when the VM ends meanwhile.
 */
export async function runInVm(
  ctx: VmContext,
  vmId: string,
  command: GuestCommand,
  options: CheckedCommandOptions,
): Promise<CommandResult> {
  const { check, orphans, timeoutMs, signal, ...rest } = options;
  const deadline = Deadline.after(timeoutMs, signal);
  // An open connection to a VM on record as running is all it takes: it closes when the VMM ends.
  const row = findVm(ctx, vmId);
  const isSteady = row.status === "running" && row.move === undefined;
  const connection =
    (isSteady ? ctx.channels.find(vmId) : undefined) ?? (await connect(ctx, await guestAddress(ctx, row), deadline));
  const result = await runCommand(connection, { ...rest, command, keepOrphans: orphans === "keep" }, deadline);
  if (check && !result.ok) throw commandFailed(command, result);
  return result;
}

async function connect(ctx: VmContext, address: GuestAddress, deadline: Deadline): Promise<GuestConnection> {
  try {
    return await ctx.channels.get(address, deadline);
  } catch (error) {
    if (deadline.isAborted) {
      const result = notStarted(false);
      throw new CommandError("ABORTED", "The command was aborted before it started", { result, cause: error });
    }
    if (!isSmolVMError(error, "TIMEOUT") || !deadline.hasExpired) throw error;
    const timeoutMs = deadline.limitMs;
    const text = `The command did not start within ${timeoutMs} ms: the guest did not answer`;
    throw new CommandError("COMMAND_TIMEOUT", text, { result: notStarted(true), timeoutMs, cause: error });
  }
}

/** The result of a command that the guest never heard of; its code is what a shell has for "cannot be executed". */
function notStarted(timedOut: boolean): CommandResult {
  const nothing = { stdout: "", stderr: "", output: "", durationMs: 0 };
  return { exitCode: 126, signal: null, ok: false, truncated: false, timedOut, ...nothing };
}

async function guestAddress(ctx: VmContext, recorded: VmRow): Promise<GuestAddress> {
  const vmId = recorded.id;
  // A VMM that ended is noticed here, before anybody waits for its lanes.
  const row = (await refreshVm(ctx, recorded)) ?? findVm(ctx, vmId);
  const help = HELP_TO_RUN[row.status];
  const runtimeDir = runtimeDirectory(ctx, vmId);
  if (help !== undefined || runtimeDir === undefined) {
    const text = `Cannot run a command in VM "${vmId}": it is ${row.status}; call ${help ?? "start()"} first`;
    throw new SmolVMError("INVALID_STATE", text, { details: { vmId, status: row.status, helps: help } });
  }
  return { vmId, backend: decodeSpec(vmId, row.spec).backend, runtimeDir };
}

function commandFailed(command: GuestCommand, result: CommandResult): CommandError {
  const shown = "argv" in command ? command.argv.join(" ") : command.shellLine;
  const how = result.signal === null ? `exited with ${result.exitCode}` : `was killed by ${result.signal}`;
  const lastLine = result.stderr.trim().split("\n").pop() ?? "";
  const text = `Command "${shown}" ${how}${lastLine === "" ? "" : `: ${lastLine}`}`;
  return new CommandError("COMMAND_FAILED", text, { result });
}
