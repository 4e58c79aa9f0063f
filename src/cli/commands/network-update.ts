// `smolvm network update`.

import { invalidConfig } from "../../errors/invalid-config.js";
import type { CommandModule } from "../command.js";
import { addEgressOptions, type EgressOptions, egressPolicy } from "../options/network.js";

export const command: CommandModule<EgressOptions> = {
  configure(command) {
    command.argument("<vm>", "id of the VM");
    addEgressOptions(command);
  },

  async run({ host, signal }, { args: [vmId = ""], options }) {
    const policy = egressPolicy(options);
    if (policy === undefined) {
      throw invalidConfig({
        field: "argv",
        value: undefined,
        expected: "--egress open, --egress off, or --allow HOST",
      });
    }
    const { SmolVM } = await host.loadSdk();
    await (await SmolVM.fromId(vmId)).network.update(policy, { signal });
    return { data: { vmId, egress: policy } };
  },
};
