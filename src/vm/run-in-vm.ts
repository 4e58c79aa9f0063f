// Runs a command in a running VM.

import { Deadline } from "../base/deadline.js";
import { isSmolVMError, SmolVMError } from "../errors/smolvm-error.js";
import { CommandError } from "../guest/command-error.js";
import type { GuestConnection } from "../guest/connection.js";
import type { GuestCommand } from "../guest/exec-request.js";
import { type CommandResult, runCommand } from "../guest/run-command.js";
import { findVm } from "./claim.js";
import { type CommandOptions, checkCommandOptions } from "./command-options.js";
import type { VmContext } from "./context.js";
import type { GuestAddress } from "./guest-channels.js";
import { HELP_TO_RUN } from "./lifecycle.js";
import { refreshVm } from "./refresh-vm.js";
import { runtimeDirectory } from "./resources.js";
import { decodeSpec } from "./vm-spec.js";

export { CommandError } from "../guest/command-error.js";
export type { CommandResult } from "../guest/run-command.js";

/**
 * @throws {INVALID_CONFIG} for a bad option. @throws {VM_NOT_FOUND}
 * @throws {INVALID_STATE} when the VM does not run, naming the call that helps.
 * @throws {COMMAND_FAILED} with `check`, or with `details.errno` when the command could not be started.
 * @throws {COMMAND_TIMEOUT} {ABORTED} as a {@link CommandError} with the result so far.
 * @throws {CHANNEL_CLOSED} when the VM ends meanwhile.
 */
export async function runInVm(
  ctx: VmContext,
  vmId: string,
  command: GuestCommand,
  options?: CommandOptions,
): Promise<CommandResult> {
  const checked = checkCommandOptions(options);
  const deadline = Deadline.after(checked.timeoutMs, checked.signal);
  const connection = await connect(ctx, await guestAddress(ctx, vmId), deadline);
  const { check, orphans, timeoutMs: _timeoutMs, signal: _signal, ...rest } = checked;
  const result = await runCommand(connection, { ...rest, command, keepOrphans: orphans === "keep" }, deadline);
  if (check && !result.ok) throw commandFailed(command, result);
  return result;
}

async function connect(ctx: VmContext, address: GuestAddress, deadline: Deadline): Promise<GuestConnection> {
  try {
    return await ctx.channels.get(address, deadline);
  } catch (error) {
    if (!isSmolVMError(error, "TIMEOUT") || !deadline.hasExpired) throw error;
    const text = `The command did not start within ${deadline.limitMs} ms: the guest did not answer`;
    throw new SmolVMError("COMMAND_TIMEOUT", text, { details: { timeoutMs: deadline.limitMs }, cause: error });
  }
}

async function guestAddress(ctx: VmContext, vmId: string): Promise<GuestAddress> {
  // A VMM that ended is noticed here, before anybody waits for its lanes.
  const row = (await refreshVm(ctx, findVm(ctx, vmId))) ?? findVm(ctx, vmId);
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
