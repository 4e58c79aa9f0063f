// `smolvm info`.

import type { VMInfo } from "../../index.js";
import type { CommandModule } from "../command.js";
import { keyValues } from "../output/table.js";
import { portsText } from "./list.js";

export const command: CommandModule = {
  configure(command) {
    command.argument("<vm>", "id of the VM");
  },

  async run({ host }, { args: [vmId = ""] }) {
    const { SmolVM } = await host.loadSdk();
    const info = await (await SmolVM.fromId(vmId)).info();
    return { data: info, text: describe(info) };
  },
};

function describe(vm: VMInfo): string {
  return keyValues({
    id: vm.vmId,
    status: vm.status,
    transition: vm.transition,
    failure: vm.failure === null ? null : `${vm.failure.code}: ${vm.failure.message}`,
    backend: vm.backend,
    accelerator: vm.accelerator,
    image: vm.image === null ? null : `${vm.image.name} (${vm.image.digest.slice(0, 12)})`,
    vcpus: vm.vcpuCount,
    memory: `${vm.memSizeMib} MiB`,
    disk: vm.diskPath,
    "disk mode": vm.diskMode,
    "disk size": vm.diskSizeMib === null ? null : `${vm.diskSizeMib} MiB`,
    network: vm.network,
    ports: portsText(vm),
    pid: vm.pid,
    created: vm.createdAt,
    updated: vm.updatedAt,
  });
}
