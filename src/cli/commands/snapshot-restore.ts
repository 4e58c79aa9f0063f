// `smolvm snapshot restore`: a new VM that goes on from a snapshot, and stays.

import type { CommandModule } from "../command.js";
import { environment } from "../options/environment.js";
import { addEnvOption, addIdOption, addPortOption, type VmOptions, vmConfig } from "../options/vm-options.js";

interface RestoreOptions extends Pick<VmOptions, "id" | "port"> {
  readonly env?: readonly string[];
}

export const command: CommandModule<RestoreOptions> = {
  configure(command) {
    command.argument("<snapshot>", "id or name of the snapshot");
    addIdOption(command);
    addPortOption(command);
    addEnvOption(command);
  },

  async run({ host, signal, onProgress }, { args: [snapshot = ""], options: { env = [], ...options } }) {
    const envVars = environment(env, host.env); // On top of the snapshot's own.
    const { SmolVM } = await host.loadSdk();
    onProgress({ step: `Starting a VM from snapshot ${snapshot}` });
    const vm = await SmolVM.fromSnapshot(snapshot, { ...vmConfig(options), envVars }, { signal });
    const info = await vm.info();
    return { data: info, text: info.vmId };
  },
};
