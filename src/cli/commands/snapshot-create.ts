// `smolvm snapshot create`.

import type { CommandModule } from "../command.js";

interface SnapshotCreateOptions {
  readonly name?: string;
}

export const command: CommandModule<SnapshotCreateOptions> = {
  configure(command) {
    command
      .argument("<vm>", "id of the VM; it runs on afterwards")
      .option("--name <name>", "a name for the snapshot, unique as ids are (default: none)");
  },

  async run({ host, signal, onProgress }, { args: [vmId = ""], options: { name } }) {
    const { SmolVM } = await host.loadSdk();
    onProgress({ step: `Making a snapshot of VM ${vmId}` });
    const vm = await SmolVM.fromId(vmId, { signal });
    const snapshot = await vm.snapshot({ name, signal });
    return { data: snapshot, text: snapshot.id };
  },
};
