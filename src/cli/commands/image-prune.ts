// `smolvm image prune`.

import type { CommandModule } from "../command.js";
import { size } from "../output/quantities.js";

interface PruneOptions {
  readonly all?: boolean;
}

export const command: CommandModule<PruneOptions> = {
  configure(command) {
    command.option("--all", "also images that a name stands for");
  },

  async run({ host, signal }, { options }) {
    const { pruneImages } = await host.loadSdk();
    const result = await pruneImages({ all: options.all, signal });
    const lines = [...result.removed.map(({ path }) => path), `Freed ${size(result.freedBytes)}.`];
    return { data: result, text: lines.join("\n") };
  },
};
