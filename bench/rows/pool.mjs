// Taking a VM out of a pool.

import { SmolVM } from "../../dist/index.js";
import { timed } from "../stats.mjs";

const [OUTPUT, ACQUIRE] = ["pool: acquire() to first command's output", "pool: acquire()"];
const SIZE = 4;

export const POOL = [{ names: [OUTPUT, ACQUIRE], measure: measurePool }];

/** Each time from a full pool that has come to rest. */
async function measurePool({ stateDir, samples }) {
  const [output, acquire] = [[], []];
  const pool = SmolVM.pool({ size: SIZE, config: { stateDir }, refillsPerSecond: 100 });
  try {
    for (let i = 0; i < samples; i++) {
      await pool.filled();
      await new Promise((resolve) => setTimeout(resolve, 100));
      const [vm, acquireMs] = await timed(() => pool.acquire());
      const [, firstMs] = await timed(() => vm.exec(["true"], { check: true }));
      acquire.push(acquireMs);
      output.push(acquireMs + firstMs);
      await vm.delete();
    }
  } finally {
    await pool[Symbol.asyncDispose]();
  }
  return { [OUTPUT]: output, [ACQUIRE]: acquire };
}
