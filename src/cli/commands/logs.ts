// `smolvm logs`.

import { Option } from "commander";
import type { CommandModule } from "../command.js";
import { wholeNumber } from "../options/values.js";

interface LogsOptions {
  readonly tail?: number;
  readonly source?: "console" | "network";
}

export const command: CommandModule<LogsOptions> = {
  configure(command) {
    command
      .argument("<vm>", "id of the VM")
      .addOption(new Option("--source <part>", "only one part of it").choices(["console", "network"]))
      .option("--tail <lines>", "only the last so many lines", wholeNumber("--tail"));
  },

  async run({ host }, { args: [vmId = ""], options }) {
    const { SmolVM } = await host.loadSdk();
    const log = await (await SmolVM.fromId(vmId)).logs({ tail: options.tail, source: options.source });
    return { data: { vmId, log }, text: log.replace(/\r?\n$/, "") };
  },
};
