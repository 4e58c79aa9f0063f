// Below the SmolVM facade: every operation by the VM's id, for programs that keep ids rather than objects.

import { VmManager } from "smolvm";

await using manager = new VmManager();

const ids = await Promise.all(
  ["web", "db"].map((role) => manager.create({ vmId: `example-${role}`, memSizeMib: 256, network: "none" })),
);
try {
  for (const id of ids) await manager.start(id);
  const names = await Promise.all(ids.map((id) => manager.exec(id, ["hostname"], { check: true })));
  console.log(names.map(({ output }) => output).join(", "));

  for (const { vmId, status, accelerator, pid } of await manager.list({ status: "running" })) {
    console.log(`${vmId}: ${status} (${accelerator}), pid ${pid}`);
  }
} finally {
  // Without this the VMs would go on running: letting go of a manager stops nothing.
  await Promise.all(ids.map((id) => manager.delete(id)));
}

const { cleaned, failed } = await manager.reconcile();
console.log(`reconcile: ${cleaned.length} cleaned, ${failed.length} failed`);
