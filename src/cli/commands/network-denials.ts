// `smolvm network denials`: one refusal a line.

import type { CommandModule } from "../command.js";

export const command: CommandModule = {
  configure(command) {
    command.argument("<vm>", "id of the VM");
  },

  async run({ host, signal }, { args: [vmId = ""] }) {
    const { SmolVM } = await host.loadSdk();
    const denials = await (await SmolVM.fromId(vmId)).network.denials({ signal });
    return { data: denials, text: denials.map(({ at, message }) => `${at} ${message}`).join("\n") };
  },
};
