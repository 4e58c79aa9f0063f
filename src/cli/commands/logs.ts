// `smolvm logs`.

import type { CommandModule } from "../command.js";
import { wholeNumber } from "../options/values.js";

interface LogsOptions {
  readonly tail?: number;
}

export const command: CommandModule<LogsOptions> = {
  configure(command) {
    command
      .argument("<vm>", "id of the VM")
      .option("--tail <lines>", "only the last so many lines", wholeNumber("--tail"));
  },

  async run({ host }, { args: [vmId = ""], options }) {
    const { SmolVM } = await host.loadSdk();
    const log = await (await SmolVM.fromId(vmId)).logs({ tail: options.tail });
    return { data: { vmId, log }, text: log.replace(/\r?\n$/, "") };
  },
};
