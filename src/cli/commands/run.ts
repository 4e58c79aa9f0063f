// `smolvm run`: a VM for one command.

import { invalidConfig } from "../../errors/invalid-config.js";
import { SmolVMError } from "../../errors/smolvm-error.js";
import type { SmolVM } from "../../index.js";
import type { CommandModule, Outcome } from "../command.js";
import {
  addGuestCommandOptions,
  addTerminalOptions,
  type GuestCommandOptions,
  guestCommandOptions,
} from "../options/guest-command-options.js";
import { addVmOptions, type VmOptions, vmConfig } from "../options/vm-options.js";
import { runInGuest, shellInGuest } from "../run-in-guest.js";
import { isAtTerminal } from "../run-in-terminal.js";

export const command: CommandModule<VmOptions & GuestCommandOptions> = {
  configure(command) {
    command.argument("[argv...]", "program and arguments; put -- before them").usage("[options] -- argv...");
    addVmOptions(command);
    addGuestCommandOptions(command);
    addTerminalOptions(command);
  },

  async run(context, { args: argv, options }) {
    if (argv.length === 0 && (context.isJson || !isAtTerminal(context.host))) throw missingArgv();
    const commandOptions = guestCommandOptions(options, context.host.env);
    const { SmolVM } = await context.host.loadSdk();
    context.onProgress({ step: "Starting a VM" });
    // The VM's owner is this process: if it is killed, the next reconcile removes the VM.
    const config = { ...vmConfig(options), lifetime: "process" as const };
    const vm = await SmolVM.create(config, { signal: context.signal, onProgress: context.onProgress });
    context.endProgress();
    let outcome: Outcome;
    try {
      outcome =
        argv.length === 0
          ? await shellInGuest(context, vm, commandOptions)
          : await runInGuest(context, vm, { argv, options: commandOptions, isOnTerminal: options.tty === true });
    } catch (error) {
      await vm.delete().catch(() => {}); // Reconcile's task now; the first failure is the one to tell.
      throw error;
    }
    return removed(vm, outcome);
  },
};

/** A VM that could not be removed is a failure, unless there is one already. */
async function removed(vm: SmolVM, outcome: Outcome): Promise<Outcome> {
  try {
    await vm.delete();
    return outcome;
  } catch (error) {
    const { failures = [] } = outcome;
    return { ...outcome, failures: [...failures, error], isQuiet: false };
  }
}

function missingArgv(): SmolVMError {
  const expected = "a program and its arguments after --, or a terminal for a shell";
  const { message, details } = invalidConfig({ field: "argv", value: undefined, expected });
  return new SmolVMError("INVALID_CONFIG", message, { details, hint: "E.g. `smolvm run -- uname -a`." });
}
