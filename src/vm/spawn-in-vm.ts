// Processes that are handled while they run: started, or attached to by their id.

import { Deadline } from "../base/deadline.js";
import { invalidConfig } from "../errors/invalid-config.js";
import { throwIfAborted } from "../errors/wait-errors.js";
import type { GuestCommand } from "../guest/exec-request.js";
import { PROCESS_ID_PATTERN } from "../guest/exec-stream.js";
import { GuestProcess } from "../guest/guest-process.js";
import { listProcesses, type ProcessInfo } from "../guest/processes.js";
import { hookedCommand } from "./command-hooks.js";
import type { VmContext } from "./context.js";
import { guestConnection } from "./guest-access.js";
import { reachForCommand, shownCommand } from "./run-in-vm.js";
import type { AttachOptions, CheckedSpawnOptions } from "./spawn-options.js";

export type { CommandInput } from "../guest/command-input.js";
export type { PtySize } from "../guest/exec-request.js";
export { GuestProcess } from "../guest/guest-process.js";
export type { GuestSignal } from "../guest/linux-signals.js";
export type { ProcessOutput } from "../guest/process-output.js";
export type { ProcessInfo } from "../guest/processes.js";

/** What makes a context ready; waited for before the guest is reached. */
export type WhenOpen = (deadline: Deadline) => Promise<unknown>;

/** Starts a process. Whatever goes wrong is told by the process, as {@link runInVm} would. */
export function spawnInVm(
  ctx: VmContext,
  { vmId, command, whenOpen }: { readonly vmId: string; readonly command: GuestCommand; readonly whenOpen: WhenOpen },
  options: CheckedSpawnOptions,
): GuestProcess {
  const { timeoutMs, signal, maxOutputBytes, check = false, orphans, stdin, detached = false, ...rest } = options;
  const deadline = Deadline.after(timeoutMs, signal);
  const hooks = ctx.hooks.for(hookedCommand(vmId, command, options));
  return new GuestProcess({
    open: async (sink) => {
      await whenOpen(deadline);
      throwIfAborted("The command", signal);
      const connection = await reachForCommand(ctx, { vmId, hooks }, deadline);
      const request = { ...rest, command, keepOrphans: orphans === "keep", hasStdin: stdin !== null };
      return connection.exec({ ...request, isDetached: detached }, sink);
    },
    ...{ deadline, maxOutputBytes, check },
    stdin: stdin === undefined ? "pipe" : stdin,
    isView: false,
    isDetached: detached,
    shown: shownCommand(command),
    onResult: (result) => hooks?.after(result),
    onError: (error) => hooks?.failed(error),
  });
}

/** A handle to a detached process. */
export function attachInVm(
  ctx: VmContext,
  { vmId, processId, whenOpen }: { readonly vmId: string; readonly processId: string; readonly whenOpen: WhenOpen },
  options: AttachOptions & { readonly maxOutputBytes: number },
): GuestProcess {
  if (typeof processId !== "string" || !PROCESS_ID_PATTERN.test(processId)) {
    throw invalidConfig({ field: "id", value: processId, expected: "the id of a process, 8 hexadecimal digits" });
  }
  const deadline = Deadline.from(options, Number.POSITIVE_INFINITY);
  const { offset, maxOutputBytes } = options;
  return new GuestProcess({
    open: async (sink) => {
      await whenOpen(deadline);
      throwIfAborted("The attaching", options.signal);
      const connection = await guestConnection(ctx, { vmId, purpose: "attach to a process in" }, deadline);
      return connection.attach(processId, offset === undefined ? undefined : BigInt(offset), sink);
    },
    ...{ deadline, maxOutputBytes },
    check: false,
    stdin: "pipe",
    isView: true,
    isDetached: true,
    shown: processId,
  });
}

/** The detached processes of a running VM. @throws {VM_NOT_FOUND} {INVALID_STATE} {TIMEOUT} {ABORTED} {CHANNEL_CLOSED} */
export async function processesInVm(ctx: VmContext, vmId: string, deadline: Deadline): Promise<ProcessInfo[]> {
  return listProcesses(await guestConnection(ctx, { vmId, purpose: "list the processes of" }, deadline), deadline);
}
