// Output as it comes, input while the command runs, and an end by AbortSignal.

import { isSmolVMError, SmolVM } from "smolvm";

await using vm = await SmolVM.create({ memSizeMib: 256, network: "none" });

async function* numbers(): AsyncGenerator<string> {
  for (const number of [3, 1, 2]) yield `${number}\n`;
}

const sorted = await vm.exec(["sort", "-n"], { stdin: numbers(), check: true });
console.log(`sorted: ${sorted.stdout.trim().split("\n").join(" ")}`);

// A promise returned by onOutput holds the guest's writer back until it resolves.
await vm.run("for i in 1 2 3; do echo line $i; sleep 0.2; done; echo done >&2", {
  onOutput: async (stream, data) => {
    process.stdout.write(`[${stream}] ${data.toString("utf8")}`);
  },
});

const enough = new AbortController();
try {
  await vm.run("while true; do echo tick; sleep 0.1; done", {
    signal: enough.signal,
    onOutput: () => enough.abort(),
  });
} catch (error) {
  if (!isSmolVMError(error, "ABORTED")) throw error;
  console.log("aborted after the first tick; every process of the command is gone");
}
const { output } = await vm.run("pgrep -c sleep || true");
console.log(`sleeping processes in the guest: ${output}`);
