// `smolvm delete`.

import { chosenNames, type DeleteOptions } from "../chosen-names.js";
import type { CommandModule } from "../command.js";
import { eachVm } from "../each-vm.js";

export const command: CommandModule<DeleteOptions> = {
  configure(command) {
    command
      .argument("[vm...]", "ids of the VMs")
      .option("--all", "delete all VMs; asks first")
      .option("--force", "do not ask");
  },

  async run(context, { args, options }) {
    const { SmolVM } = await context.host.loadSdk();
    const list = async () => (await SmolVM.list()).map(({ vmId }) => vmId);
    const ids = await chosenNames(context, { args, options, noun: "VM", list });
    return eachVm(context, ids, { step: "Deleting VM", act: (vm) => vm.delete({ signal: context.signal }) });
  },
};
