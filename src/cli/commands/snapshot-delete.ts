// `smolvm snapshot delete`.

import { chosenNames, type DeleteOptions } from "../chosen-names.js";
import type { CommandModule } from "../command.js";
import { each } from "../each.js";

export const command: CommandModule<DeleteOptions> = {
  configure(command) {
    command
      .argument("[snapshot...]", "ids or names of the snapshots")
      .option("--all", "delete all snapshots; asks first")
      .option("--force", "do not ask");
  },

  async run(context, { args, options }) {
    const { SmolVM } = await context.host.loadSdk();
    const { signal } = context;
    // The newest first: it may stand on an older one, which cannot go before it.
    const list = async () => (await SmolVM.snapshots.list({ signal })).map(({ id }) => id).reverse();
    const names = await chosenNames(context, { args, options, noun: "snapshot", list });
    const act = async (name: string) => {
      await SmolVM.snapshots.delete(name, { signal });
      return undefined;
    };
    return each(context, names, { step: "Deleting snapshot", key: "snapshot", act });
  },
};
