// `smolvm list`.

import { Option } from "commander";
import type { VMInfo, VmStatus } from "../../index.js";
import type { CommandModule } from "../command.js";
import { portText } from "../output/port-text.js";
import { age } from "../output/quantities.js";
import { table } from "../output/table.js";

interface ListOptions {
  readonly status?: VmStatus;
  readonly quiet?: boolean;
}

const STATUSES: readonly VmStatus[] = ["created", "running", "paused", "stopped", "error"];

export const command: CommandModule<ListOptions> = {
  configure(command) {
    command
      .addOption(new Option("--status <status>", "only VMs of this status").choices(STATUSES))
      .option("-q, --quiet", "print ids only");
  },

  async run({ host }, { options }) {
    const { SmolVM } = await host.loadSdk();
    const vms = await SmolVM.list({ status: options.status });
    const text = options.quiet === true ? vms.map(({ vmId }) => vmId).join("\n") : vmTable(vms);
    return { data: vms, text };
  },
};

/** The VMs as people read them. */
export function vmTable(vms: readonly VMInfo[]): string {
  const rows = vms.map((vm) => [
    vm.vmId,
    vm.transition === null ? vm.status : `${vm.status} (${vm.transition})`,
    vm.image?.name ?? "-",
    `${vm.backend}/${vm.accelerator}`,
    String(vm.vcpuCount),
    `${vm.memSizeMib} MiB`,
    portsText(vm) || "-",
    age(vm.createdAt),
  ]);
  return table(["ID", "STATUS", "IMAGE", "BACKEND", "VCPUS", "MEMORY", "PORTS", "AGE"], rows);
}

/** E.g. `127.0.0.1:8080->80`. */
export function portsText({ ports }: Pick<VMInfo, "ports">): string {
  return ports
    .map(({ guest, host, hostAddress }) => `${portText({ hostAddress, hostPort: host })}->${guest}`)
    .join(", ");
}
