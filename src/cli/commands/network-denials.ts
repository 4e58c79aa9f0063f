// `smolvm network denials`: a table of what a guest was refused, and which option would permit it.

import type { NetworkDenial } from "../../index.js";
import type { CommandModule } from "../command.js";
import { table } from "../output/table.js";

export const command: CommandModule = {
  configure(command) {
    command.argument("<vm>", "id of the VM");
  },

  async run({ host, signal }, { args: [vmId = ""] }) {
    const { SmolVM } = await host.loadSdk();
    const denials = await (await SmolVM.fromId(vmId)).network.denials({ signal });
    return { data: denials, text: denialTable(denials) };
  },
};

function denialTable(denials: readonly NetworkDenial[]): string {
  const rows = denials.map((denial) => [
    denial.at,
    denial.protocol,
    destination(denial),
    String(denial.count),
    denial.rule,
    denial.allow === null ? "-" : `--allow ${denial.allow}`,
  ]);
  return table(["AT", "BY", "TO", "TIMES", "RULE", "PERMITTED BY"], rows);
}

/** A name that was asked for is of DNS: it has no port. */
function destination({ protocol, name, address, port }: NetworkDenial): string {
  const host = name ?? address ?? "-";
  return port === null || protocol === "dns" ? host : `${host}:${port}`;
}
