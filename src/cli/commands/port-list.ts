// `smolvm port list`: the ports of one VM or of all.

import type { CommandModule, Sdk } from "../command.js";
import { portText } from "../output/port-text.js";
import { table } from "../output/table.js";

interface PortListOptions {
  readonly quiet?: boolean;
}

interface ListedPort {
  readonly vmId: string;
  readonly guestPort: number;
  readonly hostAddress: string;
  readonly hostPort: number;
}

export const command: CommandModule<PortListOptions> = {
  configure(command) {
    command
      .argument("[vm]", "id of a VM (default: all)")
      .option("-q, --quiet", "print addresses and ports of this host only");
  },

  async run({ host, signal }, { args: [vmId], options }) {
    const sdk = await host.loadSdk();
    const ports = vmId === undefined ? await portsOfAll(sdk, signal) : await portsOfOne(sdk, vmId, signal);
    if (options.quiet === true) return { data: ports, text: ports.map(portText).join("\n") };
    const rows = ports.map((port) => [port.vmId, portText(port), String(port.guestPort)]);
    return { data: ports, text: table(["VM", "HOST", "GUEST"], rows) };
  },
};

async function portsOfOne({ SmolVM }: Sdk, vmId: string, signal: AbortSignal): Promise<readonly ListedPort[]> {
  const vm = await SmolVM.fromId(vmId, { signal });
  const ports = await vm.ports({ signal });
  return ports.map(({ guestPort, hostAddress, hostPort }) => ({ vmId, guestPort, hostAddress, hostPort }));
}

/** As recorded: one VM whose ports cannot be served hides nobody else's. */
async function portsOfAll({ SmolVM }: Sdk, signal: AbortSignal): Promise<readonly ListedPort[]> {
  const vms = await SmolVM.list({ signal });
  return vms.flatMap(({ vmId, ports }) =>
    ports.map(({ guest, host, hostAddress }) => ({ vmId, guestPort: guest, hostAddress, hostPort: host })),
  );
}
