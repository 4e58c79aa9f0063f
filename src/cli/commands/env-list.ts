// `smolvm env list`: one variable a line, quoted for a shell where need be.

import type { CommandModule } from "../command.js";

/** Characters that need no quoting in a shell. */
const PLAIN = /^[A-Za-z0-9_@%+=:,./-]*$/;

export const command: CommandModule = {
  configure(command) {
    command.argument("<vm>", "id of the VM");
  },

  async run({ host, signal }, { args: [vmId = ""] }) {
    const { SmolVM } = await host.loadSdk();
    const env = await (await SmolVM.fromId(vmId)).env.list({ signal });
    const lines = Object.entries(env).map(([name, value]) => `${name}=${quoted(value)}`);
    return { data: env, text: lines.join("\n") };
  },
};

function quoted(value: string): string {
  return PLAIN.test(value) ? value : `'${value.replaceAll("'", "'\\''")}'`;
}
