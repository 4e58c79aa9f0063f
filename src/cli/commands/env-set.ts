// `smolvm env set`.

import { invalidConfig } from "../../errors/invalid-config.js";
import type { CommandModule } from "../command.js";
import { environment } from "../options/environment.js";

export const command: CommandModule = {
  configure(command) {
    command
      .argument("<vm>", "id of the VM")
      .argument("<name=value...>", "variables, or names of yours whose values are taken");
  },

  async run({ host, signal }, { args: [vmId = "", ...entries] }) {
    const env = environment(entries, host.env, "name=value");
    if (entries.length === 0) throw invalidConfig({ field: "argv", value: undefined, expected: "NAME=VALUE" });
    const { SmolVM } = await host.loadSdk();
    const vm = await SmolVM.fromId(vmId);
    await vm.env.set(env, { signal });
    return { data: { vmId, names: Object.keys(env) } };
  },
};
