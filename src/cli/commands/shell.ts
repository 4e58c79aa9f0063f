// `smolvm shell`: the login shell of a VM on this terminal.

import type { CommandModule } from "../command.js";
import {
  addGuestCommandOptions,
  type GuestCommandOptions,
  guestCommandOptions,
} from "../options/guest-command-options.js";
import { shellInGuest } from "../run-in-guest.js";

export const command: CommandModule<GuestCommandOptions> = {
  configure(command) {
    command.argument("<vm>", "id of the VM");
    addGuestCommandOptions(command);
  },

  async run(context, { args: [vmId = ""], options }) {
    const shellOptions = guestCommandOptions(options, context.host.env);
    const { SmolVM } = await context.host.loadSdk();
    return shellInGuest(context, await SmolVM.fromId(vmId), shellOptions);
  },
};
