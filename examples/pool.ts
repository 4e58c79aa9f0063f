// VMs that are ready before anybody asks: each task gets a fresh one, however many tasks come.

import { SmolVM } from "smolvm";

await using pool = SmolVM.pool({ size: 2, config: { memSizeMib: 256, network: "none" } });
await pool.filled(); // Not needed: who asks earlier waits.

const tasks = ["6 * 7", "2 ** 20", "sum(range(100))", "len('microVM')"];
const answers = await Promise.all(
  tasks.map(async (task) => {
    // Nobody has used this VM before, and it is gone at the end of the scope; the pool makes another one.
    await using vm = await pool.acquire();
    const { output } = await vm.exec(["python3", "-c", `print(${task})`], { check: true });
    return `${task} = ${output}`;
  }),
);
console.log(answers.join("\n"));

const { hits, misses, size } = pool.stats();
console.log(`pool of ${size}: ${hits + misses} taken, ${hits > 0 ? "some" : "none"} of them were ready`);
