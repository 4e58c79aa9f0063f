// `smolvm create`.

import type { VMConfig } from "../../index.js";
import type { CommandModule } from "../command.js";
import { environment } from "../options/environment.js";
import { addEnvOption, addVmOptions, type VmOptions, vmConfig } from "../options/vm-options.js";

interface CreateOptions extends VmOptions {
  readonly env?: readonly string[];
  /** False with `--no-start`. */
  readonly start: boolean;
}

export const command: CommandModule<CreateOptions> = {
  configure(command) {
    addVmOptions(command);
    addEnvOption(command);
    command.option("--no-start", "only create it");
  },

  async run(context, { options }) {
    const envVars = environment(options.env ?? [], context.host.env);
    const config: VMConfig = { ...vmConfig(options), envVars };
    const { SmolVM } = await context.host.loadSdk();
    const { signal, onProgress } = context;
    onProgress({ step: options.start ? "Starting a VM" : "Creating a VM" });
    const vm = await SmolVM.create(config, { start: options.start, signal, onProgress });
    const info = await vm.info();
    return { data: info, text: info.vmId };
  },
};
