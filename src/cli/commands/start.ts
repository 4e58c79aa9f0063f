// `smolvm start`.

import type { CommandModule } from "../command.js";
import { eachVm } from "../each-vm.js";

export const command: CommandModule = {
  configure(command) {
    command.argument("<vm...>", "ids of the VMs");
  },

  run(context, { args }) {
    return eachVm(context, args, {
      step: "Starting VM",
      act: async (vm) => {
        await vm.start({ signal: context.signal, onProgress: context.onProgress });
        return { status: vm.status };
      },
    });
  },
};
