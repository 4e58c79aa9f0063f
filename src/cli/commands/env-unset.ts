// `smolvm env unset`.

import type { CommandModule } from "../command.js";

export const command: CommandModule = {
  configure(command) {
    command.argument("<vm>", "id of the VM").argument("<name...>", "names of variables");
  },

  async run({ host, signal }, { args: [vmId = "", ...names] }) {
    const { SmolVM } = await host.loadSdk();
    const vm = await SmolVM.fromId(vmId);
    await vm.env.unset(names, { signal });
    return { data: { vmId, names } };
  },
};
