// What is measured, through the public SDK. A group measures rows that come out of the same runs.

import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { SmolVM } from "../dist/index.js";
import { timed } from "./stats.mjs";

const CLI = fileURLToPath(new URL("../dist/cli/main.js", import.meta.url));
/** Runs before measuring something repeated: caches of the guest fill up, and this program's code gets compiled. */
const WARM_UP = 10;

/** @typedef {{ stateDir: string, samples: number }} BenchOptions */

/** @type {{ names: string[], measure: (options: BenchOptions) => Promise<Record<string, number[]>> }[]} */
export const ROWS = [
  {
    names: ["create + start", "ready (create to first command's output)", "first command", "stop + delete"],
    measure: measureLifecycle,
  },
  {
    names: ["command: exec true", "command: host share (CPU of this program)", "command: run true (login shell)"],
    measure: measureCommands,
  },
  { names: ["full lifecycle (create, run, delete)"], measure: measureFullLifecycle },
  { names: ["cli: smolvm --version", "cli: node -e 0"], measure: measureCli },
];

async function measureLifecycle({ stateDir, samples }) {
  const [start, ready, first, end] = [[], [], [], []];
  for (let i = 0; i < samples; i++) {
    const [vm, startMs] = await timed(() => SmolVM.create({ stateDir }));
    const [, firstMs] = await timed(() => vm.exec(["true"], { check: true }));
    const [, endMs] = await timed(async () => {
      await vm.stop();
      await vm.delete();
    });
    start.push(startMs);
    first.push(firstMs);
    ready.push(startMs + firstMs);
    end.push(endMs);
  }
  const [startRow, readyRow, firstRow, endRow] = ROWS[0].names;
  return { [startRow]: start, [readyRow]: ready, [firstRow]: first, [endRow]: end };
}

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
  const [execRow, shareRow, runRow] = ROWS[1].names;
  return { [execRow]: exec, [shareRow]: share, [runRow]: run };
}

async function measureFullLifecycle({ stateDir, samples }) {
  const whole = [];
  for (let i = 0; i < samples; i++) {
    const [, ms] = await timed(async () => {
      const vm = await SmolVM.create({ stateDir });
      await vm.run("true", { check: true });
      await vm.delete();
    });
    whole.push(ms);
  }
  return { [ROWS[2].names[0]]: whole };
}

/** Both in turn, so that a change of the machine's speed meets both. */
async function measureCli({ samples }) {
  const [cli, bare] = [[], []];
  for (let i = -WARM_UP; i < samples; i++) {
    const [, cliMs] = await timed(async () => execFileSync(process.execPath, [CLI, "--version"]));
    const [, bareMs] = await timed(async () => execFileSync(process.execPath, ["-e", "0"]));
    if (i < 0) continue;
    cli.push(cliMs);
    bare.push(bareMs);
  }
  const [cliRow, bareRow] = ROWS[3].names;
  return { [cliRow]: cli, [bareRow]: bare };
}
