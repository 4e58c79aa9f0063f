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

/** Characters of a template's key that are shown. */
const SHORT_CHARS = 12;

/** What its present or last run began as; nothing for a VM that never ran. */
function startText({ status, startedFrom: { kind, id } }: VMInfo): string | null {
  switch (kind) {
    case "boot":
      return status === "created" ? null : "boot";
    case "template":
      return `template ${id?.slice(0, SHORT_CHARS)}`;
    case "fork":
      return `fork of VM ${id}`;
    default:
      return `${kind} ${id}`;
  }
}

function describe(vm: VMInfo): string {
  return keyValues({
    id: vm.vmId,
    status: vm.status,
    transition: vm.transition,
    failure: vm.failure === null ? null : `${vm.failure.code}: ${vm.failure.message}`,
    "started from": startText(vm),
    backend: vm.backend,
    accelerator: vm.accelerator,
    image: vm.image === null ? null : `${vm.image.name} (${vm.image.digest.slice(0, 12)})`,
    vcpus: vm.vcpuCount,
    memory: `${vm.memSizeMib} MiB`,
    disk: vm.diskPath,
    "disk mode": vm.diskMode,
    "disk size": vm.diskSizeMib === null ? null : `${vm.diskSizeMib} MiB`,
    network: vm.network,
    egress: egressText(vm),
    "rate limit": vm.rateLimitMbps === null ? null : `${vm.rateLimitMbps} Mbit/s`,
    ports: portsText(vm),
    mounts: vm.mounts.map((one) => `${one.hostPath}:${one.guestPath}${one.writable ? ":rw" : ""}`).join(", ") || null,
    ssh: vm.ssh === null ? null : `${vm.ssh.host}:${vm.ssh.port}`,
    pid: vm.pid,
    created: vm.createdAt,
    updated: vm.updatedAt,
  });
}

function egressText({ network, egress }: VMInfo): string | null {
  if (network === "none") return null;
  return typeof egress === "string" ? egress : egress.allow.join(", ");
}
