// `smolvm create`.

import type { VMConfig } from "../../index.js";
import type { CommandModule } from "../command.js";
import { collectText, environment } from "../options/environment.js";
import { addVmOptions, type VmOptions, vmConfig } from "../options/vm-options.js";

interface CreateOptions extends VmOptions {
  readonly env?: readonly string[];
  /** False with `--no-start`. */
  readonly start: boolean;
}

export const command: CommandModule<CreateOptions> = {
  configure(command) {
    addVmOptions(command);
    command
      .option(
        "--env <name=value>",
        "variable of every command in the VM, or the name of one of yours; repeatable",
        collectText,
      )
      .option("--no-start", "only create it");
  },

  async run(context, { options }) {
    const envVars = environment(options.env ?? [], context.host.env);
    const config: VMConfig = { ...vmConfig(options), envVars };
    const { SmolVM, VmManager } = await context.host.loadSdk();
    const wait = { signal: context.signal, onProgress: context.onProgress };
    context.onProgress({ step: options.start ? "Starting a VM" : "Creating a VM" });
    if (options.start) {
      const info = await (await SmolVM.create(config, wait)).info();
      return { data: info, text: info.vmId };
    }
    await using manager = new VmManager();
    const info = await manager.info(await manager.create(config, wait));
    return { data: info, text: info.vmId };
  },
};
