// `smolvm port close`.

import { invalidConfig } from "../../errors/invalid-config.js";
import { DEFAULT_HOST_ADDRESS } from "../../sdk/vm-ports.js";
import type { CommandModule } from "../command.js";
import { wholeNumber } from "../options/values.js";
import { portText } from "../output/port-text.js";

interface PortCloseOptions {
  readonly hostAddress?: string;
}

export const command: CommandModule<PortCloseOptions> = {
  configure(command) {
    command
      .argument("<vm>", "id of the VM, whether it runs or not")
      .argument("<host-port>", "port of this host, or ADDRESS:PORT as `port list` prints it")
      .option("--host-address <address>", `address of this host that it listens on (default: ${DEFAULT_HOST_ADDRESS})`);
  },

  async run({ host, signal }, { args: [vmId = "", text = ""], options }) {
    const { hostAddress: named, hostPort } = parseHostPort(text);
    const { hostAddress = named } = options;
    const { SmolVM } = await host.loadSdk();
    const vm = await SmolVM.fromId(vmId, { signal });
    const isClosed = await vm.closePort(hostPort, { ...(hostAddress !== undefined && { hostAddress }), signal });
    const data = { vmId, hostAddress: hostAddress ?? DEFAULT_HOST_ADDRESS, hostPort };
    if (!isClosed) {
      const expected = `a port of this host that leads to VM "${vmId}": see \`smolvm port list ${vmId}\``;
      throw invalidConfig({ field: "host-port", value: portText(data), expected });
    }
    return { data, text: portText(data) };
  },
};

/** The last colon divides: an IPv6 address has others. */
function parseHostPort(text: string): { readonly hostAddress?: string; readonly hostPort: number } {
  const colon = text.lastIndexOf(":");
  const hostPort = wholeNumber("host-port")(text.slice(colon + 1));
  return colon < 0 ? { hostPort } : { hostAddress: text.slice(0, colon).replace(/^\[(.*)\]$/, "$1"), hostPort };
}
