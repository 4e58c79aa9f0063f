// Many VMs at once.

import { readFileSync } from "node:fs";
import { SmolVM } from "../../dist/index.js";
import { timed } from "../stats.mjs";

const CROWD = 60;
const AT_ONCE = 20;
const MEMORY = `${CROWD} VMs alive, each answered: private memory of each, MiB`;
const TOGETHER = `${AT_ONCE} VMs created at once, all answered`;

export const CROWDS = [
  { names: [MEMORY], unit: "MiB", measure: measureCrowd },
  { names: [TOGETHER], measure: measureTogether },
];

async function measureCrowd({ stateDir }) {
  const vms = [];
  try {
    for (let i = 0; i < CROWD; i++) vms.push(await SmolVM.create({ stateDir }));
    for (const vm of vms) await vm.exec(["true"], { check: true });
    const infos = await Promise.all(vms.map((vm) => vm.info()));
    return { [MEMORY]: infos.map(({ pid }) => privateMib(pid)) };
  } finally {
    await Promise.all(vms.map((vm) => vm.delete()));
  }
}

/** What a process shares with no other, as the kernel counts it (proc(5), smaps_rollup). */
function privateMib(pid) {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
  const parts = [...text.matchAll(/^Private_(?:Clean|Dirty):\s+(\d+) kB$/gm)];
  return parts.reduce((sum, [, kib]) => sum + Number(kib), 0) / 1024;
}

async function measureTogether({ stateDir, samples }) {
  const times = [];
  await (await SmolVM.create({ stateDir })).delete();
  for (let i = 0; i < samples; i++) {
    const [vms, ms] = await timed(() =>
      Promise.all(
        Array.from({ length: AT_ONCE }, async () => {
          const vm = await SmolVM.create({ stateDir });
          await vm.exec(["true"], { check: true });
          return vm;
        }),
      ),
    );
    times.push(ms);
    await Promise.all(vms.map((vm) => vm.delete()));
  }
  return { [TOGETHER]: times };
}
