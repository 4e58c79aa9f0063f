// `smolvm snapshot list`.

import type { SnapshotInfo } from "../../index.js";
import type { CommandModule } from "../command.js";
import { age, size } from "../output/quantities.js";
import { table } from "../output/table.js";

interface SnapshotListOptions {
  readonly quiet?: boolean;
}

export const command: CommandModule<SnapshotListOptions> = {
  configure(command) {
    command.option("-q, --quiet", "print ids only");
  },

  async run({ host, signal }, { options }) {
    const { SmolVM } = await host.loadSdk();
    const snapshots = await SmolVM.snapshots.list({ signal });
    const text = options.quiet === true ? snapshots.map(({ id }) => id).join("\n") : snapshotTable(snapshots);
    return { data: snapshots, text };
  },
};

function snapshotTable(snapshots: readonly SnapshotInfo[]): string {
  const rows = snapshots.map((snapshot) => [
    snapshot.id,
    snapshot.name ?? "-",
    snapshot.vmId,
    String(snapshot.vcpuCount),
    `${snapshot.memSizeMib} MiB`,
    size(snapshot.allocatedBytes),
    age(snapshot.createdAt),
  ]);
  return table(["ID", "NAME", "VM", "VCPUS", "MEMORY", "ON DISK", "AGE"], rows);
}
