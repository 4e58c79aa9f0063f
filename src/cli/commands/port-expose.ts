// `smolvm port expose`: prints where the port is on this host, and where it leads.

import type { CommandModule } from "../command.js";
import { wholeNumber } from "../options/values.js";
import { portText } from "../output/port-text.js";

interface PortExposeOptions {
  readonly hostPort?: number;
  readonly hostAddress?: string;
}

export const command: CommandModule<PortExposeOptions> = {
  configure(command) {
    command
      .argument("<vm>", "id of a VM that runs")
      .argument("<guest-port>", "port of its guest, also of a server on the guest's 127.0.0.1")
      .option("--host-port <port>", "port of this host, from 1024 (default: a free one)", wholeNumber("--host-port"))
      .option("--host-address <address>", "address of this host to listen on (default: 127.0.0.1)");
  },

  async run({ host, signal }, { args: [vmId = "", guestPort = ""], options: { hostPort, hostAddress } }) {
    const guest = wholeNumber("guest-port")(guestPort);
    const { SmolVM } = await host.loadSdk();
    const vm = await SmolVM.fromId(vmId, { signal });
    const exposed = await vm.expose(guest, { hostPort, hostAddress, signal });
    const data = {
      vmId,
      guestPort: exposed.guestPort,
      hostAddress: exposed.hostAddress,
      hostPort: exposed.hostPort,
    };
    return { data, text: `${portText(data)} -> ${data.guestPort}` };
  },
};
