// Commands in a VM that runs.

import { SmolVM } from "../../dist/index.js";
import { timed } from "../stats.mjs";

/** Runs before measuring: caches of the guest fill up, and this program's code gets compiled. */
const WARM_UP = 10;
const [EXEC, SHARE, RUN] = [
  "command: exec true",
  "command: host share (CPU of this program)",
  "command: run true (login shell)",
];

export const COMMANDS = [{ names: [EXEC, SHARE, RUN], measure: measureCommands }];

async function measureCommands({ stateDir, samples }) {
  const vm = await SmolVM.create({ stateDir });
  const [exec, share, run] = [[], [], []];
  for (let i = -WARM_UP; i < samples * 5; i++) {
    const before = process.cpuUsage();
    const [, execMs] = await timed(() => vm.exec(["true"], { check: true }));
    const { user, system } = process.cpuUsage(before);
    const [, runMs] = await timed(() => vm.run("true", { check: true }));
    if (i < 0) continue;
    exec.push(execMs);
    share.push((user + system) / 1000);
    run.push(runMs);
  }
  await vm.delete();
  return { [EXEC]: exec, [SHARE]: share, [RUN]: run };
}
