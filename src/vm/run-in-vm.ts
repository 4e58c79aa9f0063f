// Runs a command in a running VM.

import { Deadline } from "../base/deadline.js";
import { isSmolVMError } from "../errors/smolvm-error.js";
import { CommandError, commandFailed } from "../guest/command-error.js";
import type { CommandResult } from "../guest/command-result.js";
import type { GuestConnection } from "../guest/connection.js";
import type { GuestCommand } from "../guest/exec-request.js";
import { runCommand } from "../guest/run-command.js";
import { type HookCall, hookedCommand } from "./command-hooks.js";
import type { CheckedCommandOptions } from "./command-options.js";
import type { VmContext } from "./context.js";
import { guestConnection } from "./guest-access.js";

export { CommandError } from "../guest/command-error.js";
export type { CommandResult } from "../guest/command-result.js";

/**
 * @throws {VM_NOT_FOUND}
 * @throws {INVALID_STATE} when the VM does not run, naming the call that helps.
 * @throws {COMMAND_REFUSED} when a hook refuses it.
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
  const hooks = ctx.hooks.for(hookedCommand(vmId, command, options));
  try {
    const connection = await reachForCommand(ctx, { vmId, hooks }, deadline);
    const result = await runCommand(connection, { ...rest, command, keepOrphans: orphans === "keep" }, deadline);
    hooks?.after(result);
    if (check && !result.ok) throw commandFailed(shownCommand(command), result);
    return result;
  } catch (error) {
    hooks?.failed(error);
    throw error;
  }
}

/** The command as people write it. */
export function shownCommand(command: GuestCommand): string {
  if ("argv" in command) return command.argv.join(" ");
  return command.shellLine === "" ? "login shell" : command.shellLine;
}

/**
 * Asks the hooks, then opens the way to the guest. Throws as {@link runInVm}: what runs out of time here is a command that
 * did not start.
 */
export async function reachForCommand(
  ctx: VmContext,
  { vmId, hooks }: { readonly vmId: string; readonly hooks: HookCall | undefined },
  deadline: Deadline,
): Promise<GuestConnection> {
  try {
    await hooks?.before(deadline);
    return await guestConnection(ctx, { vmId, purpose: "run a command in" }, deadline);
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
