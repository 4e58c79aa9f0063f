// Forks, snapshots, checkpoints of a running VM of 512 MiB.

import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { PHASE_CHANNEL, SmolVM } from "../../dist/index.js";
import { timed } from "../stats.mjs";

const [PAUSE, CHILD, FORK] = ["fork: parent's pause", "fork: fork() to child's first output", "fork: fork()"];
const [SNAPSHOT, RESTORE] = [
  "snapshot of a VM that uses 100 MiB",
  "snapshot: fromSnapshot() to first command's output",
];
const [CHECKPOINT, REWIND] = ["checkpoint", "rewind to first command's output"];
/** Writes so much to the guest's memory. */
const FILL = ["dd", "if=/dev/urandom", "of=/dev/shm/fill", "bs=1M", "count=100"];

export const COPIES = [
  { names: [PAUSE, CHILD, FORK], phases: ["capture", "start"], measure: measureForks },
  { names: [SNAPSHOT, RESTORE], phases: ["capture", "start"], measure: measureSnapshots },
  { names: [CHECKPOINT, REWIND], phases: ["capture", "start"], measure: measureCheckpoints },
];

async function measureForks({ stateDir, samples }) {
  const vm = await SmolVM.create({ stateDir });
  const [pauses, outputs, forks] = [[], [], []];
  const onPhase = ({ phase, durationMs }) => {
    if (phase === "of it: commands stood still") pauses.push(durationMs);
  };
  subscribe(PHASE_CHANNEL, onPhase);
  for (let i = 0; i < samples; i++) {
    const [[child], forkMs] = await timed(() => vm.fork());
    if (!child.ok) throw child.error;
    const [, firstMs] = await timed(() => child.vm.exec(["true"], { check: true }));
    forks.push(forkMs);
    outputs.push(forkMs + firstMs);
    await child.vm.delete();
  }
  unsubscribe(PHASE_CHANNEL, onPhase);
  await vm.delete();
  return { [PAUSE]: pauses, [CHILD]: outputs, [FORK]: forks };
}

async function measureSnapshots({ stateDir, samples }) {
  const vm = await SmolVM.create({ stateDir });
  await vm.exec(FILL, { check: true });
  const [snapshots, restores] = [[], []];
  for (let i = 0; i < samples; i++) {
    const [{ id }, ms] = await timed(() => vm.snapshot());
    snapshots.push(ms);
    const [copy, restoreMs] = await timed(async () => {
      const restored = await SmolVM.fromSnapshot(id, { stateDir });
      await restored.exec(["true"], { check: true });
      return restored;
    });
    restores.push(restoreMs);
    await copy.delete();
    await SmolVM.snapshots.delete(id, { stateDir });
  }
  await vm.delete();
  return { [SNAPSHOT]: snapshots, [RESTORE]: restores };
}

async function measureCheckpoints({ stateDir, samples }) {
  const vm = await SmolVM.create({ stateDir });
  const [checkpoints, rewinds] = [[], []];
  const count = Math.min(samples, 30); // Each adds a layer to the disk.
  for (let i = 0; i < count; i++) {
    const [checkpoint, ms] = await timed(() => vm.checkpoint());
    checkpoints.push(ms);
    const [, rewindMs] = await timed(async () => {
      await vm.rewind(checkpoint);
      await vm.exec(["true"], { check: true });
    });
    rewinds.push(rewindMs);
  }
  await vm.delete();
  return { [CHECKPOINT]: checkpoints, [REWIND]: rewinds };
}
