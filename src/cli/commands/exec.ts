// `smolvm exec`: a command in a VM that runs.

import { invalidConfig } from "../../errors/invalid-config.js";
import type { CommandModule } from "../command.js";
import {
  addGuestCommandOptions,
  addTerminalOptions,
  type GuestCommandOptions,
  guestCommandOptions,
} from "../options/guest-command-options.js";
import { runInGuest } from "../run-in-guest.js";

export const command: CommandModule<GuestCommandOptions> = {
  configure(command) {
    command
      .argument("<vm>", "id of the VM")
      .argument("[argv...]", "program and arguments; put -- before them")
      .usage("<vm> [options] -- argv...")
      .addHelpText("after", "\nWhat the command leaves running in the background is killed when it ends.");
    addGuestCommandOptions(command);
    addTerminalOptions(command);
  },

  async run(context, { args: [vmId = "", ...argv], options }) {
    if (argv.length === 0) {
      throw invalidConfig({ field: "argv", value: undefined, expected: "a program and its arguments after --" });
    }
    const commandOptions = guestCommandOptions(options, context.host.env);
    const { SmolVM } = await context.host.loadSdk();
    return runInGuest(context, await SmolVM.fromId(vmId), {
      argv,
      options: commandOptions,
      isOnTerminal: options.tty === true,
    });
  },
};
