// `smolvm stop`.

import type { CommandModule } from "../command.js";
import { eachVm } from "../each-vm.js";

export const command: CommandModule = {
  configure(command) {
    command.argument("<vm...>", "ids of the VMs");
  },

  run(context, { args }) {
    return eachVm(context, args, {
      step: "Stopping VM",
      act: async (vm) => {
        await vm.stop({ signal: context.signal });
        return { status: vm.status };
      },
    });
  },
};
