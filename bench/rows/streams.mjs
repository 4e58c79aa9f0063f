// Processes whose output is read as it comes, and terminals.

import { SmolVM } from "../../dist/index.js";
import { timed } from "../stats.mjs";

const MIB_BYTES = 1024 * 1024;
const OUTPUT_MIB = 100;
/** Runs before measuring, as in commands.mjs. */
const WARM_UP = 10;
/** The cheapest program of the image that says something: an emulated guest needs 6 ms more for coreutils' `echo`. */
const FIRST_BYTE_OF = ["hostname"];
/** Transfers of 100 MiB; each takes seconds. */
const LARGE_SAMPLES = 5;
const [EXEC, FIRST_BYTE, KEY] = [
  "stream: exec true, in turn with the next two",
  "stream: spawn to first byte of output",
  "stream: PTY, a key's echo",
];
const [RATE, GROWTH] = [
  `output of ${OUTPUT_MIB} MiB, MiB/s`,
  `output of ${OUTPUT_MIB} MiB: growth of this program, MiB`,
];

export const STREAMS = [
  { names: [EXEC, FIRST_BYTE, KEY], measure: measureLatency },
  { names: [RATE], unit: "MiB/s", measure: measureOutput },
  { names: [GROWTH], unit: "MiB", measure: measureGrowth },
];

async function measureLatency({ stateDir, samples }) {
  const vm = await SmolVM.create({ stateDir });
  const shell = vm.spawn(["cat"], { pty: { cols: 80, rows: 24 } });
  const screen = shell[Symbol.asyncIterator]();
  const [exec, first, key] = [[], [], []];
  for (let i = -WARM_UP; i < samples * 5; i++) {
    const [, execMs] = await timed(() => vm.exec(["true"], { check: true }));
    const [process, firstMs] = await timed(async () => {
      const started = vm.spawn(FIRST_BYTE_OF, { stdin: null });
      await started[Symbol.asyncIterator]().next();
      return started;
    });
    await process;
    const [, keyMs] = await timed(async () => {
      shell.stdin.write("x");
      await screen.next();
    });
    if (i < 0) continue;
    exec.push(execMs);
    first.push(firstMs);
    key.push(keyMs);
  }
  await vm.delete();
  return { [EXEC]: exec, [FIRST_BYTE]: first, [KEY]: key };
}

async function measureOutput({ stateDir, samples }) {
  const rates = [];
  await eachOutput({ stateDir, samples }, ({ ms }) => rates.push(OUTPUT_MIB / (ms / 1000)));
  return { [RATE]: rates };
}

async function measureGrowth({ stateDir, samples }) {
  const growth = [];
  await eachOutput({ stateDir, samples }, ({ grownBytes }) => growth.push(grownBytes / MIB_BYTES));
  return { [GROWTH]: growth };
}

async function eachOutput({ stateDir, samples }, report) {
  const vm = await SmolVM.create({ stateDir });
  for (let i = 0; i < Math.min(samples, LARGE_SAMPLES) + 1; i++) {
    const before = process.memoryUsage().rss;
    let highest = before;
    const [, ms] = await timed(async () => {
      let got = 0;
      const output = vm.spawn(["head", "-c", String(OUTPUT_MIB * MIB_BYTES), "/dev/zero"], {
        stdin: null,
        maxOutputBytes: 1,
      });
      for await (const { data } of output) {
        got += data.length;
        highest = Math.max(highest, process.memoryUsage.rss());
      }
      if (got !== OUTPUT_MIB * MIB_BYTES) throw new RangeError(`got ${got} bytes`);
    });
    if (i > 0) report({ ms, grownBytes: highest - before });
  }
  await vm.delete();
}
