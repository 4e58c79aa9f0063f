// `smolvm delete`.

import { invalidConfig } from "../../errors/invalid-config.js";
import { SmolVMError } from "../../errors/smolvm-error.js";
import { ask, canAsk } from "../ask.js";
import type { CommandContext, CommandModule } from "../command.js";
import { eachVm } from "../each-vm.js";

interface DeleteOptions {
  readonly all?: boolean;
  readonly force?: boolean;
}

export const command: CommandModule<DeleteOptions> = {
  configure(command) {
    command
      .argument("[vm...]", "ids of the VMs")
      .option("--all", "delete all VMs; asks first")
      .option("--force", "do not ask");
  },

  async run(context, { args, options }) {
    const isAll = options.all === true;
    if (isAll === args.length > 0) {
      throw invalidConfig({ field: "argv", value: args, expected: "either ids of VMs or --all" });
    }
    const ids = isAll ? await allIds(context) : args;
    if (isAll && ids.length > 0 && options.force !== true) await confirm(context, ids);
    return eachVm(context, ids, { step: "Deleting VM", act: (vm) => vm.delete({ signal: context.signal }) });
  },
};

async function allIds({ host }: CommandContext): Promise<readonly string[]> {
  const { SmolVM } = await host.loadSdk();
  return (await SmolVM.list()).map(({ vmId }) => vmId);
}

async function confirm(context: CommandContext, ids: readonly string[]): Promise<void> {
  if (!canAsk(context)) {
    throw invalidConfig({ field: "--all", value: "--all alone", expected: "--force too, where nobody can be asked" });
  }
  const question = `Delete ${ids.length} VM${ids.length === 1 ? "" : "s"} (${ids.join(", ")})?`;
  if (await ask(context, question)) return;
  throw new SmolVMError("ABORTED", "Nothing was deleted");
}
